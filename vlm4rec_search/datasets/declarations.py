"""What a shop declares about its files: `contract.yaml` beside the data says what the files themselves do not.

The section `values` says how values are to be understood. Every key may be absent, and so may the whole file.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from vlm4rec_search.common.yaml_files import read_yaml

CONTRACT_FILE = "contract.yaml"
"""Name of the file in a data folder."""


class Section(BaseModel):
    """A part of the file. An unknown key is an error that names the key which was probably meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, content: Any) -> Any:
        if isinstance(content, dict) and (unknown := [str(key) for key in content if key not in cls.model_fields]):
            close = get_close_matches(unknown[0].lower(), cls.model_fields, 1)
            known = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(cls.model_fields))}"
            raise ValueError(f"unknown key {unknown[0]}: {known}")
        return content


class Values(Section):
    """How the values of all tables are to be understood."""

    decimal: Literal[".", ","] | None = None
    """Decimal sign of prices and values."""
    nothing: dict[str, tuple[str, ...]] = {}
    """Words for nothing, by column of the contract, or `attributes`, or `all`; they replace the usual ones."""
    available: tuple[str, ...] = ()
    """Words for an item that can be bought, besides the usual ones, in any case."""
    unavailable: tuple[str, ...] = ()
    """Words for an item that cannot be bought."""


class Declarations(Section):
    """The content of `contract.yaml`."""

    values: Values = Values()


def load_declarations(folder: Path) -> Declarations:
    """Return what `contract.yaml` of a data folder declares; nothing is declared if there is no such file.

    Raises:
        UsageError: the file cannot be read, is not YAML, or has an unknown key or a value that is not allowed.
    """
    path = folder / CONTRACT_FILE
    if not path.exists():
        return Declarations()
    # Every value is text at first: `no`, `null` and 1e3 are words of a shop as well.
    return read_yaml(path, Declarations, "the declarations", loader=yaml.BaseLoader)


def variable(section: Section) -> str:
    """Return what a section declares as JSON: a variable of the SQLMesh project, so that a plan sees a change."""
    return section.model_dump_json(exclude_defaults=True)
