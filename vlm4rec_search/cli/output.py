"""What the commands print: JSON for programs, and text that cannot harm a terminal."""

import re
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vlm4rec_search.common.settings import Settings

_LONGEST = 200  # characters of a value in a table

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def echo_json(value: object) -> None:
    """Print a value as JSON on one line; dataclasses become objects with their fields."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, default=_fields))


def other_index(url: str | None, settings: "Settings") -> str:
    """Return the option that names an index in the next command, empty for the index of the settings.

    Credentials in a URL are left out: they belong into the environment.
    """
    if url in (None, settings.index_url):
        return ""
    return " --url " + re.sub(r"//[^/@]*@", "//", str(url))


def printable(text: str) -> str:
    """Replace control characters: those in a catalogue's text could move the cursor or clear the screen."""
    return "".join(character if character.isprintable() else " " for character in text)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as a table, or one below the other as `column: value` where a table is wider than the terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(columns))]
    widths = [max(len(line[at]) for line in (columns, *cells)) for at in range(len(columns))]
    if sum(widths) + 3 * len(widths) <= console.width:
        table = Table(box=SIMPLE, pad_edge=False)
        for name, is_number in zip(columns, numeric, strict=True):
            table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
        for row in cells:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    width = max(map(len, columns))
    for row in cells:
        click.echo()
        for name, value in zip(columns, row, strict=True):
            if value:
                click.echo(f"{name:<{width}}  {value}")


def _cell(value: object) -> str:
    """Return a value as the text of a cell; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list | tuple):
        text = ", ".join(str(entry) for entry in value)
    elif isinstance(value, int | float):
        text = f"{value:,}"
    else:
        text = re.sub(r"\.\d+$", "", str(value)) if hasattr(value, "isoformat") else str(value)
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def _fields(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
