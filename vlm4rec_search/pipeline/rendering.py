"""The project's SQL models as plain DuckDB SQL, for tables that no plan builds."""

import sys
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from vlm4rec_search.common.errors import RunError, first_line, innermost


def render_model(project: Path, name: str, variables: Mapping[str, object] | None = None) -> str:
    """Return the query of a model as DuckDB SQL, with its macros expanded.

    Importing SQLMesh takes about two seconds. Its `Context` would do the same, but it loads every model and reads the
    raw files again.

    Args:
        project: folder of the SQLMesh project.
        name: of an SQL model, <layer>.<table>.
        variables: those of the project that the model and its macros use.

    Raises:
        RunError: the model cannot be rendered; somebody has edited it.
    """
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlmesh.core.dialect import parse
    from sqlmesh.core.macros import macro
    from sqlmesh.core.model import create_sql_model
    from sqlmesh.utils.errors import SQLMeshError

    load_macros(project)
    file = project / "models" / f"{name.replace('.', '/')}.sql"
    try:
        statements = parse(file.read_text("utf-8"), default_dialect="duckdb")
        (query,) = (statement for statement in statements if isinstance(statement, exp.Query))
        model = create_sql_model(
            name,
            query,
            dialect="duckdb",
            macros=macro.get_registry(),
            module_path=project.resolve(),
            variables=dict(variables or {}),
        )
        sql: str = model.render_query_or_raise(execution_time="now").sql(dialect="duckdb", comments=False)
    except (OSError, SQLMeshError, SqlglotError, ValueError) as error:
        raise RunError(f"{file} cannot be run outside a plan: {first_line(innermost(error))}") from error
    return sql


def load_macros(project: Path) -> dict[str, ModuleType]:
    """Register the macros of a project with SQLMesh, and return the modules of its folder `macros` by name."""
    modules = {}
    for path in sorted((project / "macros").glob("[!_]*.py")):
        spec = spec_from_file_location(f"macros.{path.stem}", path)
        if spec is not None and spec.loader is not None:
            module = modules[path.stem] = module_from_spec(spec)
            sys.modules[spec.name] = module  # where SQLMesh looks for the helpers of a macro
            spec.loader.exec_module(module)
    return modules
