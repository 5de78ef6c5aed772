"""Reads a delivered file as the raw reader does, and returns everything it makes of it."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import duckdb

from vlm4rec_search.datasets.raw import RawFile, inspect

Row = dict[str, str | None]


@dataclass(frozen=True)
class Delivered:
    """What `inspect` makes of the files of one table: the rows with their lines, and the broken records."""

    files: tuple[RawFile, ...]
    rows: list[Row]
    lines: list[int]
    broken: list[tuple[int, str, str]]


def read_table(folder: Path, table: str = "items") -> Delivered:
    """Read a table of a data folder; a row has the columns of the table that are not NULL, and its attributes."""
    cache = folder.parent / f"{folder.name}-cache"
    found = inspect(folder, table, cache)
    rows: list[Row] = []
    lines: list[int] = []
    broken: list[tuple[int, str, str]] = []
    with duckdb.connect() as connection:
        for file in found.files:
            stored = connection.read_parquet(str(cache / "raw" / f"{file.key}.parquet"))
            names = stored.columns[2:-1]
            for _, line, *values, attributes in stored.fetchall():
                lines.append(line)
                filled = {name: value for name, value in zip(names, values, strict=True) if value is not None}
                rows.append({**json.loads(attributes), **filled})
            if file.broken:
                refused = connection.read_parquet(str(cache / "raw" / f"{file.key}.broken.parquet"))
                broken += refused.project("line, reason, record").fetchall()
    assert len(rows) == sum(file.rows for file in found.files)
    assert len(broken) == sum(file.broken for file in found.files)
    return Delivered(found.files, rows, lines, broken)


def read_items(folder: Path, content: bytes | str, name: str = "items.csv", contract: str = "") -> Delivered:
    """Write a catalogue into a new folder, with or without declarations, and read it."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    if contract:
        (folder / "contract.yaml").write_text(contract)
    return read_table(folder)


def count_records(content: str, **dialect: object) -> int:
    """Return the number of records below the header as Python's csv counts them."""
    records = [record for record in csv.reader(io.StringIO(content, newline=""), **dialect) if record]  # type: ignore[arg-type]
    return len(records) - 1
