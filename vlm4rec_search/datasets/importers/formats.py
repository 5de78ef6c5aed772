"""Declared mappings: how the exports of shop systems and public data sets become the raw contract.

Each is a YAML file in the folder `formats`, read by the same mechanism as `contract.yaml` and the options of
`vlm4rec import generic`.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import yaml

from vlm4rec_search.common.yaml_files import read_yaml
from vlm4rec_search.datasets.declarations import Names, Section, TableDeclaration, Values

_FOLDER = Path(__file__).with_name("formats")


class Pivot(Section):
    """A file with one line for each property of an item: its properties become columns, the latest value counts."""

    id: str
    property: str
    value: str
    order: str
    keep: tuple[str, ...]


class ImportTable(TableDeclaration):
    """How the files of one table are read and rewritten."""

    merge: Names = ()
    """The column whose value the rows of one item share; of each column the first value that is not empty counts.

    Where several are named, a row in which the first is filled is a variant, and is merged into the row that it names
    by the first of the others that this row has: `[Parent, SKU, ID]` by an SKU, or as `id:7` where the row has none. A
    variant whose row is not there stays alone. The first column is not written.
    """
    pivot: Pivot | None = None
    offered: Mapping[str, Names] = {}
    """Columns with the words, in small letters, under which a shop offers an item; with another it is unavailable.

    It does not count where a person declares which column says what is available.
    """

    empty: Mapping[str, Names] = {}
    """Columns with the words, in small letters, that stand for nothing in them."""
    escaped: Names = ()
    r"""Columns in which `\n` stands for a line break, and `\\n` for the two signs themselves."""

    @property
    def named_columns(self) -> list[str]:
        """The columns of the files that are named here."""
        return [*super().named_columns, *self.merge, *self.offered, *self.empty, *self.escaped]


class ImportItems(ImportTable):
    """How a catalogue is imported."""

    table: ClassVar[str] = "items"


class ImportInteractions(ImportTable):
    """How an interaction log is imported."""

    table: ClassVar[str] = "interactions"


class ImportUsers(ImportTable):
    """How shoppers are imported."""

    table: ClassVar[str] = "users"


class ImportFormat(Section):
    """One kind of export. Of several layouts of a table, the first one whose files are there counts."""

    items: tuple[ImportItems, ...] = (ImportItems(),)
    interactions: tuple[ImportInteractions, ...] = (ImportInteractions(),)
    users: tuple[ImportUsers, ...] = (ImportUsers(),)
    values: Values = Values()

    def layouts(self, table: str) -> tuple[ImportTable, ...]:
        """Return the layouts of a table: items, interactions or users."""
        found: tuple[ImportTable, ...] = getattr(self, table)
        return found


GENERIC = ImportFormat()
"""The format of an unknown export: nothing is declared."""


@cache
def load_format(name: str) -> ImportFormat:
    """Return a packaged format by its name, such as `shopify`."""
    return read_yaml(_FOLDER / f"{name}.yaml", ImportFormat, "the format", loader=yaml.BaseLoader)
