"""What the commands print: JSON for programs, and text that cannot harm a terminal."""

import re
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vlm4rec_search.common.text_forms import shorten

if TYPE_CHECKING:
    from vlm4rec_search.common.settings import Settings

_FOLDED = 24  # columns of a text without spaces, when a table would be too wide

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def echo_json(value: object) -> None:
    """Print a value as JSON on one line; dataclasses become objects with their fields, paths texts."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, default=_plain))


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
    """Print rows as a table, or below each other as `column: value` where not even folded texts fit the terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(columns))]
    widths = [max(len(line[at]) for line in (columns, *cells)) for at in range(len(columns))]
    room = console.width - 3 * len(columns)
    if sum(widths) > room and len(rows) > 1:
        widths = _fold(columns, cells, numeric, room) or widths
    if sum(widths) <= room:
        table = Table(box=SIMPLE, pad_edge=False)
        for name, is_number, width in zip(columns, numeric, widths, strict=True):
            justify: Literal["left", "right"] = "right" if is_number else "left"
            table.add_column(_fold_name(name, width), justify=justify, width=width, overflow="fold")
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


def _fold(
    columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], room: int
) -> list[int] | None:
    """Return widths of columns, together at most `room`, in which texts take up to three lines; None without such."""
    longest = [max(map(len, column)) for column in zip(*cells, strict=True)]
    parts = [max(map(len, _parts(name))) for name in columns]
    words = [
        max((len(word) for text in column for word in text.split()), default=0) for column in zip(*cells, strict=True)
    ]
    widths = [
        max(part, length if is_number else min(word, _FOLDED))
        for part, length, word, is_number in zip(parts, longest, words, numeric, strict=True)
    ]
    while sum(widths) < room and any(length > width for length, width in zip(longest, widths, strict=True)):
        widths[max(range(len(widths)), key=lambda at: longest[at] / widths[at])] += 1
    is_low = all(length <= 3 * width for length, width in zip(longest, widths, strict=True))
    return widths if is_low and sum(widths) <= room else None


def _parts(name: str) -> list[str]:
    """Return the words of a column's name, each with the underscore behind it."""
    return re.findall(r"[^_]+_*|_+", name)


def _fold_name(name: str, width: int) -> str:
    lines = [""]
    for part in _parts(name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


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
    return shorten(printable(text))


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
