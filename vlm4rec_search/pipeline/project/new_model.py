"""The start of a table of one's own: an SQL model with comments and audits, and its unit test."""

import re
from pathlib import Path
from string import Template

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.pipeline.project.template import write_file

LAYER = "analysis"
"""Schema of a model whose name has none."""
_FILES = Path(__file__).with_name("files")


def write_model(project: Path, name: str) -> tuple[str, list[Path]]:
    """Write a model that passes the lint rules and its test; return the full name and the paths of the two files.

    Args:
        project: folder of the project.
        name: `table`, or `layer.table`; the layer is the schema and the folder in models/.

    Raises:
        UsageError: the name cannot be used, or the project has this model already.
    """
    layer, _, table = name.rpartition(".")
    layer = layer or LAYER
    if not all(re.fullmatch(r"[a-z][a-z0-9_]*", part) for part in (layer, table)) or "__" in layer:
        raise UsageError(f"{name!r} is no name of a table: use lower case, digits and _, as in `{LAYER}.big_baskets`")
    existing = sorted((project / "models" / layer).glob(f"{table}.*"))
    if existing:
        raise UsageError(f"{existing[0]} exists already: choose another name")
    files = {
        project / "models" / layer / f"{table}.sql": _FILES / "new_model.sql",
        project / "tests" / "models" / f"test_{layer}_{table}.yaml": _FILES / "new_model.yaml",
    }
    for path, template in files.items():
        write_file(path, Template(template.read_text("utf-8")).substitute(layer=layer, name=table).encode())
    return f"{layer}.{table}", list(files)
