"""What a shop declares about its files: `contract.yaml` beside the data says what the files themselves do not.

The section `values` says how values are to be understood. Every key may be absent, and so may the whole file.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
    time_form: Literal["dmy", "mdy", "days"] | None = None
    """Order of day and month in times such as 01/03/2024, or days as spreadsheets count them."""
    time_zone: str | None = None
    """IANA name of the zone of times that name none; UTC if absent."""
    time_zones: dict[str, int] = {}
    """Minutes east of UTC by abbreviation, written as offsets such as +01:00."""
    events: dict[str, str] = {}
    """Event types of the log, in any case, with those of `profiles.event_weights` that they are."""
    rating_scale: float | None = Field(default=None, gt=0)
    """The best rating, such as 5 or 10."""
    rating_events: tuple[str, ...] = ("rating",)
    """Event types whose value is a rating."""
    nothing: dict[str, tuple[str, ...]] = {}
    """Words for nothing, by column of the contract, or `attributes`, or `all`; they replace the usual ones."""
    available: tuple[str, ...] = ()
    """Words for an item that can be bought, besides the usual ones, in any case."""
    unavailable: tuple[str, ...] = ()
    """Words for an item that cannot be bought."""

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, name: str | None) -> str | None:
        if name is not None and name not in available_timezones():
            raise ValueError(f"{name} is no time zone: write one such as Europe/Berlin")
        return name

    @field_validator("events")
    @classmethod
    def _join_words(cls, events: dict[str, str]) -> dict[str, str]:
        return {_one_word(word): _one_word(name) for word, name in events.items()}

    @field_validator("time_zones", mode="before")
    @classmethod
    def _parse_offsets(cls, offsets: Any) -> Any:
        if not isinstance(offsets, dict):
            return offsets
        return {str(name).upper(): _minutes(str(name), offset) for name, offset in offsets.items()}


class Declarations(Section):
    """The content of `contract.yaml`."""

    values: Values = Values()


def _one_word(event: str) -> str:
    """Return an event type as the macro `@event_name` spells it: add_to_cart for "Add to Cart" and `addToCart`."""
    return re.sub(r"[\W_]+", "_", re.sub("([a-z])([A-Z])", r"\1_\2", event).lower()).strip("_")


def _minutes(name: str, offset: Any) -> int:
    parts = re.fullmatch(r"([+-])(\d\d):(\d\d)", str(offset))
    if parts is None or not name.isalpha():
        raise ValueError(f"{name}: {offset} is not an abbreviation with an offset such as EST: -05:00")
    return int(f"{parts[1]}{int(parts[2]) * 60 + int(parts[3])}")


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
