"""What a shop declares about its files: `contract.yaml` beside the data says what the files themselves do not.

The sections `items`, `interactions` and `users` say how the files of a table are read; the section `values` says how
their values are to be understood. Every key may be absent, and so may the whole file.

    interactions:
      delimiter: ";"
      map: {user_id: Kunde, item_id: Artikel, timestamp: Datum}
      set: {event_type: purchase}
"""

import codecs
import re
import string
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.text_forms import MARKERS, WORDS
from vlm4rec_search.common.yaml_files import read_yaml
from vlm4rec_search.datasets.events.event import kind_of, one_word

CONTRACT_FILE = "contract.yaml"
"""Name of the file in a data folder."""
CONTRACT: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title", "description", "category", "price", "image", "available"),
    "interactions": ("user_id", "item_id", "timestamp", "event_type", "value"),
    "users": ("user_id", "segment"),
}
"""Columns of each table of the raw contract. Every other column of a file is an attribute."""
_LOCALES: dict[str, dict[str, str]] = {
    "en": {"decimal": "."},
    "en_US": {"time_form": "mdy"},
    **{name: {"time_form": "dmy"} for name in ("en_GB", "en_IE", "en_AU", "en_NZ", "en_IN")},
    **{
        language: {"decimal": ",", "time_form": "dmy"}
        for language in ("de", "fr", "es", "it", "nl", "pt", "da", "nb", "no", "fi", "pl", "cs", "sk", "sl", "hr", "ro")
    },
    **{language: {"decimal": ",", "time_form": "dmy"} for language in ("bg", "el", "ru", "uk", "tr")},
    **{language: {"decimal": ","} for language in ("sv", "hu", "lt")},  # the year stands first
    **{name: {"decimal": "."} for name in ("ja", "zh", "ko", "de_CH", "de_LI", "it_CH", "es_MX")},
}
"""What a language or a locale means; a locale goes before its language."""
_NAMED = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "backslash": "\\", "none": ""}


class Section(BaseModel):
    """A part of the file. An unknown key is an error that names the key which was probably meant.

    A section, list or mapping without content, such as one whose keys are all commented out, declares nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, content: Any) -> Any:
        if content in ("", None):
            return {}
        if isinstance(content, dict) and (unknown := [str(key) for key in content if key not in cls.model_fields]):
            close = get_close_matches(unknown[0].lower(), cls.model_fields, 1)
            known = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(cls.model_fields))}"
            raise ValueError(f"unknown key {unknown[0]}: {known}")
        if isinstance(content, dict):
            several = (key for key, field in cls.model_fields.items() if isinstance(field.default, (tuple, dict)))
            empty = {key for key in several if content.get(key) in ("", None)}
            return {key: value for key, value in content.items() if key not in empty}
        return content


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_sign(value: Any) -> Any:
    return _NAMED.get(value, value) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Sign = Annotated[str, BeforeValidator(_as_sign)]


class TableDeclaration(Section):
    """How the files of one table are read. What is not declared is decided for each file by looking at it."""

    table: ClassVar[str] = ""

    files: Names = Field(default=(), description="patterns of file names in the folder, such as orders/*.csv")
    encoding: str = Field(default="", description="such as utf-8, windows-1252 or utf-16")
    delimiter: Sign = Field(default="", max_length=4, description="between values: one to four characters, or tab")
    quote: Sign | None = Field(default=None, max_length=1, description="around values, or none")
    escape: Sign | None = Field(default=None, max_length=1, description="before a quote inside of a value")
    columns: Names = Field(default=(), description="names of the columns of files without a header")
    partitions: Names = Field(default=(), description="columns that folders named key=value stand for")
    map: Mapping[str, Names] = Field(
        default={}, description="column of the table: column of the file, or several; the first that is not empty"
    )
    set: Mapping[str, str] = Field(
        default={}, description="column of the table: a text in which {name} is the value of a column of the file"
    )
    first: Mapping[str, str] = Field(
        default={}, description="column of the table: the separator of a list of which the first element is taken"
    )
    split: Mapping[str, str] = Field(default={}, description="attribute: the separator of its values")

    @property
    def named_columns(self) -> list[str]:
        """The columns of the files that are named here."""
        sources = [name for names in self.map.values() for name in names]
        return sources + [name for text in self.set.values() for _, name in template_parts(text) if name]

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, encoding: str) -> str:
        if not encoding:
            return ""
        try:
            name = codecs.lookup(encoding).name
            # Codecs such as base64 and idna are not for files.
            codecs.getincrementaldecoder(name)("replace").decode("a".encode(name))
        except (LookupError, ValueError):
            raise ValueError(f"there is no encoding {encoding}") from None
        return name

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            path = PurePosixPath(pattern)
            if not pattern.strip() or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{pattern!r} does not name files inside of the folder")
        return patterns

    @field_validator("map", "set", "first")
    @classmethod
    def _name_columns(cls, targets: Mapping[str, Any]) -> Mapping[str, Any]:
        contract = CONTRACT.get(cls.table, ())
        for target in targets:
            close = get_close_matches(target.lower(), contract, 1, cutoff=0.75)
            if target not in contract and close:
                raise ValueError(f"{cls.table} has no column {target}: did you mean {close[0]}?")
        return targets

    @field_validator("map")
    @classmethod
    def _have_sources(cls, sources: Mapping[str, Names]) -> Mapping[str, Names]:
        if empty := [target for target, names in sources.items() if not names]:
            raise ValueError(f"{empty[0]} needs the name of a column of the file")
        return sources

    @field_validator("set")
    @classmethod
    def _are_templates(cls, templates: Mapping[str, str]) -> Mapping[str, str]:
        for template in templates.values():
            template_parts(template)
        return templates

    @field_validator("split")
    @classmethod
    def _are_attributes(cls, separators: Mapping[str, str]) -> Mapping[str, str]:
        for target, separator in separators.items():
            if target in CONTRACT.get(cls.table, ()):
                raise ValueError(f"{target} has one value, and only attributes have several: use first")
            if not separator:
                raise ValueError(f"{target} needs the separator of its values")
        return separators

    @model_validator(mode="after")
    def _map_or_set(self) -> "TableDeclaration":
        if both := sorted(self.map.keys() & self.set.keys()):
            raise ValueError(f"map and set both name {both[0]}; keep one")
        return self


class ItemsDeclaration(TableDeclaration):
    """How the catalogue is read."""

    table: ClassVar[str] = "items"


class InteractionsDeclaration(TableDeclaration):
    """How the interaction log is read."""

    table: ClassVar[str] = "interactions"


class UsersDeclaration(TableDeclaration):
    """How the shoppers are read."""

    table: ClassVar[str] = "users"


class Values(Section):
    """How the values of all tables are to be understood."""

    locale: str | None = None
    """Such as de_DE: stands for its decimal sign and its order of day and month, where these are not declared."""
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
    mend_texts: bool = False
    """Whether texts of items that are UTF-8 read as Windows-1252, such as CafÃ©, are decoded once more."""

    def words_for_nothing(self, column: str) -> tuple[str, ...]:
        """Return the words for nothing in a column of the contract."""
        return self.nothing.get(column, self.nothing.get("all", (*MARKERS, *WORDS)))

    @model_validator(mode="before")
    @classmethod
    def _expand_locale(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("locale") is None:
            return content
        name = str(content["locale"]).split(".")[0].replace("-", "_")
        language = name.split("_")[0]
        if language not in _LOCALES:
            raise ValueError(
                f"the locale {name} is not known: declare decimal and time_form; known are {', '.join(_LOCALES)}"
            )
        of_locale = {**_LOCALES[language], **_LOCALES.get(name, {})}
        return {**of_locale, **content}

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, name: str | None) -> str | None:
        if name is not None and name not in available_timezones():
            raise ValueError(f"{name} is no time zone: write one such as Europe/Berlin")
        return name

    @field_validator("events")
    @classmethod
    def _join_words(cls, events: dict[str, str]) -> dict[str, str]:
        # The other word for a kind of event may have other words itself: buy is a purchase. One for itself stays.
        words = {one_word(word): one_word(name) for word, name in events.items()}
        return {word: name if words.get(name) == name else kind_of(name) for word, name in words.items()}

    @field_validator("rating_events")
    @classmethod
    def _fold_words(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(one_word, events))

    @field_validator("nothing")
    @classmethod
    def _are_columns(cls, words: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        known = list(dict.fromkeys([*(name for names in CONTRACT.values() for name in names), "attributes", "all"]))
        if unknown := [name for name in words if name not in known]:
            close = get_close_matches(unknown[0].lower(), known, 1)
            advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"there is no column {unknown[0]}: {advice}")
        return words

    @field_validator("time_zones", mode="before")
    @classmethod
    def _parse_offsets(cls, offsets: Any) -> Any:
        if not isinstance(offsets, dict):
            return offsets
        return {str(name).upper(): _minutes(str(name), offset) for name, offset in offsets.items()}


class Declarations(Section):
    """The content of `contract.yaml`."""

    items: ItemsDeclaration = ItemsDeclaration()
    interactions: InteractionsDeclaration = InteractionsDeclaration()
    users: UsersDeclaration = UsersDeclaration()
    values: Values = Values()

    def of(self, table: str) -> TableDeclaration:
        """Return the section of a table: items, interactions or users."""
        section: TableDeclaration = getattr(self, table)
        return section


def template_parts(template: str) -> list[tuple[str, str | None]]:
    """Return the pieces of a text for `set`: a fixed text, then the name of a column of the file or None.

    Raises:
        ValueError: a brace is not closed, or braces hold something other than a name.
    """
    try:
        parts = [(text, name, form, conversion) for text, name, form, conversion in string.Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(f"{template!r}: {error}") from None
    if any(name == "" or form or conversion for _, name, form, conversion in parts):
        raise ValueError(f"{template!r}: braces hold the name of a column")
    return [(text, name) for text, name, _, _ in parts]


def _minutes(name: str, offset: Any) -> int:
    parts = re.fullmatch(r"([+-])(\d\d):(\d\d)", str(offset))
    if parts is None or not name.isalpha():
        raise ValueError(f"{name}: {offset} is not an abbreviation with an offset such as EST: -05:00")
    return int(f"{parts[1]}{int(parts[2]) * 60 + int(parts[3])}")


def load_declarations(folder: Path) -> Declarations:
    """Return what `contract.yaml` of a data folder declares; nothing is declared if there is no such file.

    Raises:
        UsageError: the file cannot be read, is not YAML, or has an unknown key or a value that is not allowed; or its
            name ends with .yml.
    """
    path = folder / CONTRACT_FILE
    if not path.exists():
        if (other := path.with_suffix(".yml")).exists():
            raise UsageError(f"{other} is not read: rename it {CONTRACT_FILE}")
        return Declarations()
    # Every value is text at first: `no`, `null` and 1e3 are words of a shop as well.
    return read_yaml(path, Declarations, "the declarations", loader=yaml.BaseLoader)


def variable(section: Section) -> str:
    """Return what a section declares as JSON: a variable of the SQLMesh project, so that a plan sees a change."""
    return section.model_dump_json(exclude_defaults=True)
