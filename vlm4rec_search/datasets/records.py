"""Reads the records of a delivered file: every record is a row, or is kept as a broken one with its line and reason.

DuckDB reads a file in which each line is a record, as a count of the lines proves. Any other file is read record by
record, which is slower.
"""

import csv
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from pathlib import Path
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from vlm4rec_search.common.errors import RunError, UsageError, one_line
from vlm4rec_search.common.paths import working_folder
from vlm4rec_search.common.sql import quote_name, quote_text
from vlm4rec_search.common.text_forms import MARKERS
from vlm4rec_search.datasets.columns import ColumnMatch, free_names, plain_name, unique_names
from vlm4rec_search.datasets.declarations import TableDeclaration
from vlm4rec_search.datasets.dialects import (
    UNDECODABLE,
    Dialect,
    TextScan,
    decide_dialect,
    open_bytes,
    open_text,
    scan_text,
    split_lines,
)
from vlm4rec_search.datasets.files import compression_of, kind_of, open_parquet, read_errors

_BATCH = 20_000
_MOST_LINES = 10_000  # of one record, so that a quote that is never closed takes no more than these with it
_SURE_LINES = 20  # of one record, up to which lines that are as wide as the header may be its text
_KEPT_CHARACTERS = 1_000_000  # of a broken record
_FLOATS = ("FLOAT", "DOUBLE")
_DIGITS = 38  # of the longest decimal that DuckDB knows
_EXACT = 2**53  # up to here a float holds every whole number
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_NUMBERS = ("price", "value")  # columns of numbers
_BROKEN = pa.schema([("line", pa.int64()), ("reason", pa.string()), ("record", pa.string())])


@dataclass(frozen=True)
class Records:
    """The records of one file.

    Attributes:
        relation: one row for each record that can be read, in the order of the file. The column `line` is the line on
            which the record begins (of Parquet the number of the record), from 1. The other columns are for the
            expressions in `values` and `typed`.
        rows: number of rows of `relation`.
        values: SQL of the value of each column of the file as text.
        typed: SQL of the value of each column inside of a JSON object.
        broken: the other records: line, reason, record (its text).
        broken_rows: number of rows of `broken`.
        written: how the file is written, such as "csv, delimiter ;, utf-8".
        notes: what a person should know about the file, without its name.
        is_json: whether a row of `relation` is a JSON object, in the column `json`.
        numbers: SQL of the text of each column that may have typed numbers, for columns of numbers: 1.299 is 1.2990,
            so that nobody takes its point for a sign of thousands.
    """

    relation: duckdb.DuckDBPyRelation
    rows: int
    values: Mapping[str, str]
    typed: Mapping[str, str]
    broken: duckdb.DuckDBPyRelation
    broken_rows: int
    written: str
    notes: tuple[str, ...] = ()
    is_json: bool = False
    numbers: Mapping[str, str] = field(default_factory=dict)

    def columns(self, match: ColumnMatch) -> dict[str, str]:
        """Return SQL of the text of each column of the table that the file has."""
        sql = {target: self._first_filled(self._of(target), names) for target, names in match.sources.items()}
        sql |= {target: self._filled_in(self._of(target), parts) for target, parts in match.templates.items()}
        for target in match.first.keys() & sql.keys():
            sql[target] = _first_part(sql[target], match.first[target])
        for target in match.split.keys() & sql.keys():
            sql[target] = _as_list(sql[target], match.split[target])
        for target in match.lists:
            sql[target] = _first_of_list(sql[target])
        return sql

    def others(self, match: ColumnMatch) -> list[str]:
        """Return the columns of the file that are no column of the table, or only a part of which is."""
        taken = {name for target, names in match.sources.items() if target not in match.shortened for name in names}
        taken |= match.dropped
        return [name for name in self.values if name not in taken]

    def attributes(self, match: ColumnMatch, table_columns: Sequence[str]) -> str:
        """Return SQL of a JSON object, as text, of all values that stand in none of `table_columns`."""
        own = self.attribute_names(match)
        kept = [name for name, new in own.items() if name == new]
        new = {**{new: self.typed[name] for name, new in own.items() if name != new}, **self.columns(match)}
        new |= {name: f"CAST({new[name]} AS JSON)" for name in match.split.keys() & new.keys()}
        added = [f"{quote_text(name)}, {sql}" for name, sql in new.items() if name not in table_columns]
        if self.is_json:
            # Merging nulls removes the keys that are columns of the table.
            patch = dict.fromkeys(name for name in self.values if name not in kept)
            rest = f"JSON_MERGE_PATCH(json, {quote_text(json.dumps(patch, ensure_ascii=False))})"
            rest = f"JSON_MERGE_PATCH({rest}, JSON_OBJECT({', '.join(added)}))" if added else rest
            rest = _finite(rest)
        else:
            pairs = [f"{quote_text(name)}, {self.typed[name]}" for name in kept]
            rest = f"JSON_OBJECT({', '.join(pairs + added)})"
        return f"CAST({rest} AS VARCHAR)"

    def attribute_names(self, match: ColumnMatch) -> dict[str, str]:
        """Return the names under which the other columns stand beside those of the table, as in an import."""
        return free_names(self.others(match), self.columns(match), self.values)

    def _of(self, target: str) -> Mapping[str, str]:
        """Return the SQL of the values for a column of the table."""
        return {**self.values, **self.numbers} if target in _NUMBERS else self.values

    def _first_filled(self, values: Mapping[str, str], names: Sequence[str]) -> str:
        if len(names) == 1:
            return values[names[0]]
        filled = [f"NULLIF(TRIM({values[name]}), '')" for name in names]
        markers = ", ".join(map(quote_text, MARKERS))
        something = (f"CASE WHEN {sql} NOT IN ({markers}) THEN {sql} END" for sql in filled)
        return f"COALESCE({', '.join([*something, *filled])})"

    def _filled_in(self, values: Mapping[str, str], parts: Sequence[tuple[str, str | None]]) -> str:
        pieces = [piece for text, name in parts for piece in (quote_text(text), *([values[name]] if name else []))]
        return f"({' || '.join(pieces)})" if pieces else "''"


class EmptyFileError(UsageError):
    """A file has no header and no rows. Beside other files of its table it stands for no rows."""


@contextmanager
def open_records(
    connection: duckdb.DuckDBPyConnection, path: Path, table: str, declared: TableDeclaration
) -> Iterator[Records]:
    """Read one file of a table; the relations are valid inside of the block.

    Args:
        connection: of the relations.
        path: parquet; jsonl or json (one object per line), or any delimited text; plain, or packed by gzip or zstd.
        table: items, interactions or users.
        declared: how the table is read.

    Raises:
        EmptyFileError: the file is empty.
        UsageError: the file is missing or damaged, or none of its records can be read.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise EmptyFileError(f"{path} is empty: it has no header and no rows")
    read = {"parquet": _read_parquet, "jsonl": _read_json_lines, "csv": _read_delimited}[kind_of(path)]
    with working_folder() as folder:
        with read_errors(path):
            records = read(connection, path, table, declared, folder)
            if not records.rows and (first := records.broken.project("line, reason").fetchone()):
                count = f"none of its {records.broken_rows} records can be read"
                raise UsageError(f"{path}: {count}; the first: line {first[0]}: {first[1]}")
        yield records


def partition_values(name: str, partitions: Sequence[str]) -> dict[str, str | None]:
    """Return the values that the folders of a relative path give to columns: `date=2026-11-27/part.csv`.

    Hive and Spark escape signs (`A%2FB`), and write `__HIVE_DEFAULT_PARTITION__` for NULL. A path without the
    folder gives no value.
    """
    parts = (part.split("=", 1) for part in name.split("/")[:-1] if "=" in part)
    pairs = {unquote(column): unquote(value) for column, value in parts}
    values = {partition: pairs[partition] for partition in partitions if partition in pairs}
    return {partition: None if value == _NULL_PARTITION else value for partition, value in values.items()}


def with_partitions(records: Records, name: str, partitions: Sequence[str]) -> Records:
    """Return the records with the columns that the folders of the relative path `name` stand for.

    Each has one value for the whole file. A file below no such folder keeps a column of that name, or else has NULL.
    """
    constants = partition_values(name, partitions)
    own = {column.casefold() for column in records.values}
    constants |= {each: None for each in partitions if each not in constants and each.casefold() not in own}
    sql = {column: "NULL" if value is None else quote_text(value) for column, value in constants.items()}
    numbers = {column: number for column, number in records.numbers.items() if column not in sql}
    relation = records.relation
    if records.is_json and (pairs := [f"{quote_text(column)}, {value}" for column, value in sql.items()]):
        relation = relation.project(f"* REPLACE (JSON_MERGE_PATCH(json, JSON_OBJECT({', '.join(pairs)})) AS json)")
    values, typed = {**records.values, **sql}, {**records.typed, **sql}
    return replace(records, relation=relation, values=values, typed=typed, numbers=numbers)


# Delimited text


def _read_delimited(
    connection: duckdb.DuckDBPyConnection, path: Path, table: str, declared: TableDeclaration, folder: Path
) -> Records:
    _refuse_other_kinds(path)
    scan = scan_text(path, declared.encoding)
    dialect = decide_dialect(path, scan, table, declared)
    header, before = (list(declared.columns), dialect.skipped) if declared.columns else _read_header(path, dialect)
    names = unique_names(header)
    notes = [
        f"the header names {plain_name(delivered)!r} twice; the second column is called {name!r}"
        for delivered, name in zip(header, names, strict=True)
        if plain_name(delivered) and name.casefold() != plain_name(delivered).casefold()
    ]
    notes += _encoding_notes(scan, declared)
    keys = [f"c{position}" for position in range(len(names))]
    relation = None
    if before == (0 if declared.columns else 1):
        relation = _one_line_each(connection, path, scan, dialect, keys, before, header)
    rows = scan.lines - before
    broken, broken_rows, short = _none_broken(connection), 0, 0
    if relation is None:
        plain_header = [value.strip("\ufeff") for value in header]
        writer = _Writer(folder, keys)
        with open_text(path, scan.encoding) as text, writer:
            lines = _Lines(islice(text, before, None), before)
            for line, record, reason in _split(lines, dialect, len(keys), scan.sound):
                if not reason and [value.strip("\ufeff") for value in record] == plain_header:
                    writer.refuse(line, "it is the header once more", ["".join(lines.taken).rstrip("\r\n")])
                elif reason:
                    writer.refuse(line, reason, record)
                else:
                    short += len(record) < len(keys)
                    writer.add(line, record)
        (relation, broken), rows, broken_rows = writer.relations(connection), writer.rows, writer.broken_rows
    if short:
        notes.append(f"{short} of {rows + broken_rows} rows are shorter than the header; what they lack is NULL")
    values = dict(zip(names, keys, strict=True))
    return Records(relation, rows, values, values, broken, broken_rows, f"{_suffix(path)}, {dialect}", tuple(notes))


def _refuse_other_kinds(path: Path) -> None:
    """Refuse a file that is no text, or a text of another kind, by its first bytes, which are unpacked if need be."""
    head = b""
    with suppress(OSError), open_bytes(path) as file:  # a damaged one is told when it is read to its end
        head = file.read(8)
    for start, kind in _OTHER_KINDS.items():
        if head.startswith(start):
            raise UsageError(f"{path} is {kind}: save it as csv, parquet or jsonl first")


_OTHER_KINDS = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"<?xml": "XML",
    b"PAR1": "a Parquet file with another suffix",
    b"SQLite": "a database",
    b"\x1f\x8b": "compressed twice",
}


def _encoding_notes(scan: TextScan, declared: TableDeclaration) -> list[str]:
    guessed = not declared.encoding and scan.encoding in ("windows-1252", "latin-1")
    return [f"the text is no UTF-8 and is read as {scan.encoding}; declare the encoding if it is another"] * guessed


def _read_header(path: Path, dialect: Dialect) -> tuple[list[str], int]:
    """Return the names in the header, and the number of lines up to its end."""
    with open_text(path, dialect.encoding) as text:
        lines = _Lines(islice(text, dialect.skipped, None), dialect.skipped)
        for _, record, reason in _split(lines, dialect, None):
            if reason:
                raise UsageError(f"{path} cannot be read: in its header {reason}")
            return record, lines.number
    raise EmptyFileError(f"{path} is empty: it has no header and no rows")


def _one_line_each(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    scan: TextScan,
    dialect: Dialect,
    keys: list[str],
    header_lines: int,
    header: list[str],
) -> duckdb.DuckDBPyRelation | None:
    """Return the records as DuckDB reads them, or None unless each line is a record that has all its values.

    Files in which the header comes once more are left to the other reader as well.
    """
    if not (scan.sound and scan.ends and not scan.has_nul and scan.encoding in ("utf-8", "utf-8-sig")):
        return None
    if dialect.quote and dialect.escape != dialect.quote:
        return None
    quoted = bool(dialect.quote) and len(dialect.delimiter) == 1
    # An explicit dialect: DuckDB's own detection may take `#` for a comment, or a first row for a preamble. Without
    # `new_line`, with which \r\n gives no rows. Literals: a relation with bound parameters would hold the whole file in
    # memory.
    text = {
        "delim": dialect.delimiter,
        "quote": dialect.quote if quoted else "",
        "escape": dialect.escape if quoted else "",
        "comment": "",
        "nullstr": "",
        "compression": compression_of(path) or "none",
    }
    options = ", ".join(f"{name} = {quote_text(value)}" for name, value in text.items())
    kinds = ", ".join(f"{key}: 'VARCHAR'" for key in keys)
    options += f", columns = {{{kinds}}}, header = {header_lines > 0}, hive_partitioning = FALSE"
    with suppress(duckdb.Error):
        relation = connection.sql(f"""
            SELECT ROW_NUMBER() OVER () + {header_lines} AS line, {", ".join(keys)}
            FROM READ_CSV(
              {quote_text(str(path))}, auto_detect = FALSE, strict_mode = TRUE, null_padding = FALSE, {options}
            )
        """)  # noqa: S608
        values = (
            f"{key} IS NOT DISTINCT FROM NULLIF({quote_text(name)}, '')"
            for key, name in zip(keys[1:], header[1:], strict=True)
        )
        is_header = " AND ".join([f"LTRIM({keys[0]}, CHR(65279)) = {quote_text(header[0].strip(chr(65279)))}", *values])
        counts = relation.aggregate(
            ", ".join(["COUNT(*)", f"COUNT(*) FILTER ({is_header})", *(f"COUNT({key})" for key in keys)])
        ).fetchone()
        if counts and counts[0] + header_lines == scan.lines and not counts[1]:
            return relation
    return None


class _Lines(Iterator[str]):
    """Lines of a text, numbered from 1; those of the current record are kept, and can be read again."""

    def __init__(self, text: Iterator[str], number: int = 0) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.number = number
        self.taken: list[str] = []
        self.wants_more = False
        """Whether a record went on where the text, or what one record may take of it, was at its end."""

    def __next__(self) -> str:
        if len(self.taken) < _MOST_LINES and (line := self._again.popleft() if self._again else next(self._text, "")):
            self.number += 1
            self.taken.append(line)
            return line
        self.wants_more = True
        raise StopIteration

    def begin(self) -> int:
        """Begin a record, and return the number of its first line."""
        self.taken, self.wants_more = [], False
        return self.number + 1

    def give_back(self, lines: list[str]) -> None:
        """Read lines again that have been read last."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)


def _split(
    lines: _Lines, dialect: Dialect, width: int | None, sound: bool = True
) -> Iterator[tuple[int, list[str], str]]:
    """Yield each record: its first line, its values, and the reason if it is broken; then its text is the only value.

    A quote that is not closed costs the line on which it is opened only.

    Args:
        lines: the text.
        dialect: how it is written.
        width: number of values of the header; None for a header itself.
        sound: whether the whole text could be decoded.
    """
    strict, lenient = (split_lines(lines, dialect, strict=strict) for strict in (True, False))
    while True:
        number, reason, is_strict = lines.begin(), "", True
        try:
            record = next(strict)
        except StopIteration:
            return
        except csv.Error:
            lines.give_back(lines.taken)
            lines.begin()
            is_strict = False
            try:
                record = next(lenient)
            except csv.Error as error:
                record, reason = [], one_line(error)
        taken = lines.taken
        if not record and not reason:
            continue
        expected = len(record) if width is None else width
        if not reason and lines.wants_more:
            reason = "a quote is opened and never closed"
        if not reason and len(record) > expected and any(record[expected:]):
            reason = f"{len(record)} values, the header has {expected}"
        is_sure = is_strict and width is not None and len(record) >= width
        if not reason and len(taken) > 1 and _holds_record(taken, dialect, width, is_sure):
            reason = "a quote is opened and not closed on its line"
        if reason and len(taken) > 1:
            lines.give_back(taken[1:])
            taken = taken[:1]
        if not sound and not reason and any(map(UNDECODABLE.search, record)):
            reason = f"it is not {dialect.encoding} text"
        yield (number, ["".join(taken).rstrip("\r\n")], reason) if reason else (number, record[:expected], "")


def _holds_record(lines: list[str], dialect: Dialect, width: int | None, is_sure: bool) -> bool:
    """Whether the lines of one record hold others, because a quote is open on the first line and one on the last.

    Then a line below the first one is by itself as wide as the header, or else as the first one. If `is_sure`, the
    record has all its values, and its quotes stand where quotes may stand: then it takes many such lines and no other.
    """
    if is_sure and len(lines) <= _SURE_LINES:
        return False
    with suppress(csv.Error):
        first, *others = (len(next(split_lines(iter([line]), dialect), [])) for line in lines)
        wanted = first if width is None else width
        return set(others) == {wanted} if is_sure else wanted in others
    return False


class _Writer:
    """Writes records into one temporary Parquet file, and broken ones into another."""

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        self._paths = folder / "rows.parquet", folder / "broken.parquet"
        schema = pa.schema([("line", pa.int64()), *((key, pa.string()) for key in keys)])
        self._schemas = schema, _BROKEN
        self._rows: list[list[str]] = []
        self._lines: list[int] = []
        self._refused: list[tuple[int, str, str]] = []
        self.rows = 0
        self.broken_rows = 0

    def __enter__(self) -> "_Writer":
        with self._room():
            pairs = zip(self._paths, self._schemas, strict=True)
            self._files = [pq.ParquetWriter(path, schema) for path, schema in pairs]
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        with suppress(OSError, pa.ArrowException) if kind else self._room():
            for file in self._files:
                file.close()

    def add(self, line: int, record: list[str]) -> None:
        """Write a record; it may have fewer values than there are columns."""
        self._lines.append(line)
        self._rows.append(record)
        self.rows += 1
        if len(self._lines) >= _BATCH:
            self._flush()

    def refuse(self, line: int, reason: str, record: list[str]) -> None:
        """Write a broken record."""
        text = record[0][:_KEPT_CHARACTERS].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self._refused.append((line, reason, text))
        self.broken_rows += 1
        if len(self._refused) >= _BATCH:
            self._flush()

    def relations(
        self, connection: duckdb.DuckDBPyConnection
    ) -> tuple[duckdb.DuckDBPyRelation, duckdb.DuckDBPyRelation]:
        """Return the records and the broken records, once the block of the writer has ended."""
        rows, broken = self._paths
        return open_parquet(connection, rows), open_parquet(connection, broken)

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            folder = self._paths[0].parent
            raise RunError(
                f"records cannot be kept in the temporary folder {folder} ({one_line(error)}): make room there, or set"
                " TMPDIR to another folder"
            ) from None

    def _flush(self) -> None:
        with self._room():
            self._write()

    def _write(self) -> None:
        if self._lines:
            schema = self._schemas[0]
            columns = list(zip_longest(*self._rows))
            columns += [()] * (len(schema) - 1 - len(columns))
            arrays = [
                pa.array([value or None for value in column] or [None] * len(self._lines), pa.string())
                for column in columns
            ]
            self._files[0].write_table(
                pa.Table.from_arrays([pa.array(self._lines, pa.int64()), *arrays], schema=schema)
            )
        if self._refused:
            rows = [dict(zip(_BROKEN.names, row, strict=True)) for row in self._refused]
            self._files[1].write_table(pa.Table.from_pylist(rows, schema=_BROKEN))
        self._lines, self._rows, self._refused = [], [], []


def find_lists(records: Records, match: ColumnMatch, table: str, name: str) -> ColumnMatch:
    """Return how the columns are matched if some categories are JSON lists: see `_first_of_list`.

    Args:
        records: of the file or the files.
        match: how their columns are matched.
        table: items, interactions or users.
        name: of the file, for the note.
    """
    if table != "items" or "category" not in match.sources or "category" in match.first:
        return match
    category = records.columns(match)["category"]
    # [null] is what some SQL clients write for nothing.
    found = records.relation.filter(f"{category} <> '[null]' AND {_is_list(category)}")
    if not (lists := found.shape[0]):
        return match
    note = f"{name}: {lists} categories are lists; the first element counts, and the list is kept as an attribute"
    if empty := found.filter(f"{_first_of_list(category)} IS NULL").shape[0]:
        note += f"; in {empty} of them no element is a text or has a name, and the category is empty"
    return replace(match, lists=frozenset({"category"}), notes=(*match.notes, note))


def _none_broken(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    return connection.sql("SELECT 0::BIGINT AS line, '' AS reason, '' AS record WHERE FALSE")


# JSON, one object per line


def _read_json_lines(
    connection: duckdb.DuckDBPyConnection, path: Path, table: str, declared: TableDeclaration, folder: Path
) -> Records:
    _refuse_other_kinds(path)
    scan = scan_text(path, declared.encoding)
    _refuse_array(path, scan)
    relation, broken, broken_rows = _objects_as_they_are(connection, path, scan), _none_broken(connection), 0
    if relation is None:
        relation, broken = _read_objects(connection, path, scan, folder)
        broken_rows = broken.shape[0]
    relation, twice = _with_first_keys(relation)
    keys = relation.project("line, UNNEST(JSON_KEYS(json)) AS name, GENERATE_SUBSCRIPTS(JSON_KEYS(json), 1) AS place")
    first = keys.aggregate("name, MIN(line) AS first_line, ARG_MIN(place, line) AS first_place", "name")
    found = first.order("first_line, first_place").fetchall()
    names, rows = [str(name) for name, *_ in found], relation.shape[0]
    if not rows and not broken_rows:
        raise EmptyFileError(f"{path} is empty: it has no header and no rows")
    values = {name: f"JSON_EXTRACT_STRING(json, {quote_text(_pointer(name))})" for name in names}
    types = {name: f"JSON_TYPE(json, {quote_text(_pointer(name))}) = 'DOUBLE'" for name in names}
    numbers = {name: _of_one_meaning(values[name], types[name]) for name in names}
    notes = (
        *_encoding_notes(scan, declared),
        *(f"objects have the key {name!r} twice; the first counts" for name in twice),
    )
    written = f"{_suffix(path)}, {scan.encoding}"
    return Records(relation, rows, values, values, broken, broken_rows, written, notes, is_json=True, numbers=numbers)


def _with_first_keys(relation: duckdb.DuckDBPyRelation) -> tuple[duckdb.DuckDBPyRelation, list[str]]:
    """Return the objects with the first value of each key, and the keys that an object has twice."""
    keys = "JSON_KEYS(json)"
    is_twice = f"LEN({keys}) > LEN(LIST_DISTINCT({keys}))"
    again = f"UNNEST(LIST_FILTER({keys}, (key, place) -> LIST_POSITION({keys}, key) < place)) AS name"
    twice = [str(name) for (name,) in relation.filter(is_twice).project(again).distinct().order("name").fetchall()]
    if not twice:
        return relation, []
    once = f"LIST_FILTER({keys}, (key, place) -> LIST_POSITION({keys}, key) = place)"
    value = "JSON_EXTRACT(json, '/' || REPLACE(REPLACE(key, '~', '~0'), '/', '~1'))"
    pairs = f"LIST_TRANSFORM({once}, key -> TO_JSON(key)::VARCHAR || ':' || {value}::VARCHAR)"
    first = f"CAST('{{' || ARRAY_TO_STRING({pairs}, ',') || '}}' AS JSON)"
    return relation.project(f"line, CASE WHEN {is_twice} THEN {first} ELSE json END AS json"), twice


def _refuse_array(path: Path, scan: TextScan) -> None:
    """Refuse a file that is one JSON array: it begins with a bracket that its last line closes."""
    first = last = ""
    with open_text(path, scan.encoding) as text:
        for line in text:
            if content := line.strip().strip("\ufeff"):
                first, last = first or content, content
                if not first.startswith("["):
                    return
    if first.startswith("[") and last.endswith("]"):
        raise UsageError(f"{path} is one JSON array; write one object per line: jq -c '.[]' {path.name} > lines.jsonl")


def _objects_as_they_are(
    connection: duckdb.DuckDBPyConnection, path: Path, scan: TextScan
) -> duckdb.DuckDBPyRelation | None:
    """Return the records as DuckDB reads them, or None unless each line is a JSON object."""
    if not (scan.sound and scan.encoding == "utf-8"):
        return None
    compression = quote_text(compression_of(path) or "uncompressed")
    source = f"READ_NDJSON_OBJECTS({quote_text(str(path))}, hive_partitioning = FALSE, compression = {compression})"
    with suppress(duckdb.Error):
        relation = connection.sql(f"SELECT ROW_NUMBER() OVER () AS line, json FROM {source}")  # noqa: S608
        if relation.aggregate("COUNT(*), BOOL_AND(JSON_TYPE(json) = 'OBJECT')").fetchone() == (scan.lines, True):
            return relation
    return None


def _read_objects(
    connection: duckdb.DuckDBPyConnection, path: Path, scan: TextScan, folder: Path
) -> tuple[duckdb.DuckDBPyRelation, duckdb.DuckDBPyRelation]:
    """Return the lines that hold a JSON object, and the others."""
    lines = _Writer(folder, ["text"])
    with open_text(path, scan.encoding) as text, lines:
        for number, line in enumerate(text, 1):
            content = line.strip().strip("\ufeff")
            if content and not scan.sound and UNDECODABLE.search(content):
                lines.refuse(number, f"it is not {scan.encoding} text", [content])
            elif content:
                lines.add(number, [content])
    (folder / "lines").mkdir()
    objects = _Writer(folder / "lines", ["json"])
    rows, refused = lines.relations(connection)
    is_object = "CASE WHEN JSON_VALID(text) THEN JSON_TYPE(text) = 'OBJECT' ELSE FALSE END"
    with objects:
        cursor = rows.filter(f"NOT {is_object}")
        while batch := cursor.fetchmany(_BATCH):
            for number, content in batch:
                objects.refuse(int(number), _json_mistake(content), [content])
    _, broken = objects.relations(connection)
    found = rows.filter(is_object).project("line, CAST(text AS JSON) AS json")
    return found, refused.union(broken).order("line")


def _json_mistake(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {one_line(error)}"
    # What Python accepts and DuckDB does not: half of a pair of escapes.
    kind = type(value).__name__
    return "it is not JSON: an escape is no character" if kind == "dict" else f"it is no JSON object but a {kind}"


def _pointer(name: str) -> str:
    """Return the JSON pointer (RFC 6901) of a key."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


# Parquet


def _read_parquet(
    connection: duckdb.DuckDBPyConnection, path: Path, table: str, declared: TableDeclaration, folder: Path
) -> Records:
    relation = open_parquet(connection, path)
    # DuckDB reads other numbers from them.
    source = f"PARQUET_SCHEMA({quote_text(str(path))})"
    wide = connection.sql(f"SELECT name FROM {source} WHERE precision > {_DIGITS}").fetchall()  # noqa: S608
    if wide:
        told = ", ".join(dict.fromkeys(str(name) for (name,) in wide))
        raise UsageError(
            f"{path} has decimals of more than {_DIGITS} digits ({told}): save them with fewer, or as text"
        )
    # Every value is read once, so that a damaged page and a text that is no UTF-8 are told now.
    types = [str(kind) for kind in relation.types]
    read_all = (
        f"SUM(STRLEN({quote_name(name)}))" if kind == "VARCHAR" else f"COUNT({quote_name(name)})"
        for name, kind in zip(relation.columns, types, strict=True)
    )
    left_out: list[str] = []
    try:
        relation.aggregate(", ".join(["COUNT(*)", *read_all])).fetchone()
    except duckdb.InvalidInputException as error:
        if "string encoding" not in str(error):
            raise
        copy = folder / "bytes.parquet"
        left_out = _copy_with_bytes(path, copy)
        relation = open_parquet(connection, copy)
    names = unique_names(relation.columns)
    kinds = dict(zip(names, map(str, relation.types), strict=True))
    keys = {name: f"c{position}" for position, name in enumerate(names)}  # a column may be called `line` as well
    columns = zip(relation.columns, keys.values(), strict=True)
    relation = relation.project(", ".join(f"{quote_name(column)} AS {key}" for column, key in columns))
    is_text = {name: _is_text(relation, keys[name]) for name in names if kinds[name] == "BLOB"}
    notes = [
        f"the column {name!r} holds a list or an object with a text that is no UTF-8; it is left out"
        for name in left_out
    ]
    notes += [
        f"the column {name!r} holds bytes that are no text; it is left out"
        for name in names
        if is_text.get(name) is False
    ]
    names = tuple(name for name in names if is_text.get(name, True))
    typed = {name: _typed(keys[name], kinds[name]) for name in names}
    values = {name: _text(keys[name], kinds[name]) for name in names}
    relation = relation.project("ROW_NUMBER() OVER () AS line, *")
    broken = _none_broken(connection)
    if unreadable := [f"({keys[name]} IS NOT NULL AND {typed[name]} IS NULL)" for name in is_text if is_text[name]]:
        condition = " OR ".join(unreadable)
        pairs = ", ".join(f"{quote_text(name)}, CAST({keys[name]} AS VARCHAR)" for name in names)
        broken = relation.filter(condition).project(
            f"line, 'it is not utf-8 text' AS reason, CAST(JSON_OBJECT({pairs}) AS VARCHAR) AS record"
        )
        relation = relation.filter(f"NOT ({condition})")
    numbers = {
        name: _of_one_meaning(values[name]) for name in names if kinds[name] in _FLOATS or _is_decimal(kinds[name])
    }
    rows, broken_rows = relation.shape[0], broken.shape[0]
    return Records(relation, rows, values, typed, broken, broken_rows, "parquet", tuple(notes), numbers=numbers)


def _copy_with_bytes(path: Path, target: Path) -> list[str]:
    """Copy a Parquet file in which a text is no UTF-8, with its texts as bytes.

    Returns:
        The columns of lists and objects with such a text, which the copy lacks.
    """
    try:
        source = pq.ParquetFile(path)
        fields = list(source.schema_arrow)
        nested = [at for at, field in enumerate(fields) if pa.types.is_nested(field.type)]
        bad = {at for batch in source.iter_batches() for at in nested if not _is_valid(batch.column(at))}
        kept = [at for at in range(len(fields)) if at not in bad]
        schema = pa.schema(
            fields[at].with_type(pa.binary())
            if pa.types.is_string(fields[at].type) or pa.types.is_large_string(fields[at].type)
            else fields[at]
            for at in kept
        )
        with pq.ParquetWriter(target, schema) as writer:
            for batch in source.iter_batches():
                writer.write_table(pa.Table.from_batches([batch]).select(kept).cast(schema))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}") from None
    return [fields[at].name for at in sorted(bad)]


def _is_valid(values: pa.Array) -> bool:
    """Whether all texts inside of values are UTF-8."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_text(relation: duckdb.DuckDBPyRelation, key: str) -> bool:
    """Whether at least half of the values of a column of bytes are texts."""
    texts, values = relation.aggregate(f"COUNT(TRY(DECODE({key}))), COUNT({key})").fetchone() or (0, 0)
    return bool(2 * texts >= values)


def _first_part(text: str, separator: str) -> str:
    """Return SQL of the first element of a list, in which a separator behind a backslash is a part of an element.

    CHR(31), which no text of a shop has, stands for such a separator meanwhile.
    """
    sign, escaped = quote_text(separator), quote_text(f"\\{separator}")
    if not separator.strip("\\"):
        return f"NULLIF(TRIM(SPLIT_PART({text}, {sign}, 1)), '')"
    first = f"SPLIT_PART(REPLACE({text}, {escaped}, CHR(31)), {sign}, 1)"
    return f"NULLIF(TRIM(REPLACE({first}, CHR(31), {sign})), '')"


def _as_list(text: str, separator: str) -> str:
    """Return SQL of the text of a JSON list of all elements that say something; a JSON list stays.

    They are separated as for `_first_part`.
    """
    sign, escaped = quote_text(separator), quote_text(f"\\{separator}")
    parts = f"STRING_SPLIT(REPLACE({text}, {escaped}, CHR(31)), {sign})"
    trimmed = f"LIST_TRANSFORM({parts}, part -> TRIM(REPLACE(part, CHR(31), {sign})))"
    filled = _filled(trimmed)
    return f"CASE WHEN {_is_list(text)} THEN {text} WHEN LEN({filled}) > 0 THEN CAST(TO_JSON({filled}) AS VARCHAR) END"


def _first_of_list(text: str) -> str:
    """Return SQL of the first element of a JSON list that says something; a text that is no list stays.

    An object says its name or its title, a list its first element.
    """
    inner = ", ".join(f"JSON_EXTRACT_STRING(part, '{path}')" for path in ("$.name", "$.title", "$[0]"))
    plain = "CASE WHEN JSON_TYPE(part) NOT IN ('OBJECT', 'ARRAY') THEN JSON_EXTRACT_STRING(part, '$') END"
    parts = f"LIST_TRANSFORM(JSON_EXTRACT({text}, '$[*]'), part -> TRIM(COALESCE({inner}, {plain})))"
    return f"CASE WHEN {_is_list(text)} THEN {_filled(parts)}[1] ELSE {text} END"


def _is_list(text: str) -> str:
    return f"({text} LIKE '[%' AND JSON_VALID({text}))"


def _filled(texts: str) -> str:
    """Return SQL of those texts of a list that say something."""
    nothing = ", ".join(map(quote_text, ("", *MARKERS)))
    return f"LIST_FILTER({texts}, part -> part NOT IN ({nothing}))"


def _of_one_meaning(number: str, condition: str = "TRUE") -> str:
    """Return SQL of the text of a number, with a fourth decimal where the point might separate thousands."""
    ambiguous = f"REGEXP_FULL_MATCH({number}, '-?[1-9]\\d{{0,2}}\\.\\d{{3}}')"
    return f"CASE WHEN {condition} AND {ambiguous} THEN {number} || '0' ELSE {number} END"


def _finite(json: str) -> str:
    """Return SQL of the text of JSON, with null for the NaN and Infinity that DuckDB writes and nobody else reads."""
    parts = """REGEXP_EXTRACT_ALL(text, '"(?:[^"\\\\]|\\\\.)*"|[^"]+')"""
    number = "REGEXP_REPLACE(part, '[-+]?(nan|inf(inity)?)', 'null', 'gi')"
    finite = f"LIST_TRANSFORM({parts}, part -> CASE WHEN part LIKE '\"%' THEN part ELSE {number} END)"
    some = "REGEXP_MATCHES(text, '(?i)[\\[:,]\\s*[-+]?(nan|inf)')"
    whole = f"CASE WHEN {some} THEN ARRAY_TO_STRING({finite}, '') ELSE text END"
    return f"LIST_TRANSFORM([CAST({json} AS VARCHAR)], text -> {whole})[1]"


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))


def _is_decimal(kind: str) -> bool:
    return kind.startswith("DECIMAL(") and kind.endswith(")") and not kind.endswith(",0)")


def _typed(key: str, kind: str) -> str:
    if kind == "BLOB":
        return f"TRY(DECODE({key}))"
    if kind in _FLOATS:
        # pandas and others write NaN for a missing number; a FLOAT as it is would be 0.10000000149011612
        return f"CASE WHEN ISFINITE({key}) THEN CAST(CAST({key} AS VARCHAR) AS DOUBLE) END"
    return f"CAST({_text(key, kind)} AS JSON)" if _is_decimal(kind) or _is_nested(kind) else key


def _text(key: str, kind: str) -> str:
    if kind in _FLOATS:
        # A column of whole numbers becomes one of floats as soon as a number is missing: 4711.0 is 4711.
        whole = f"{key} = TRUNC({key}) AND ABS({key}) < {_EXACT}"
        number = f"WHEN NOT ISNAN({key}) THEN CAST({key} AS VARCHAR)"
        return f"CASE WHEN {whole} THEN CAST(CAST({key} AS BIGINT) AS VARCHAR) {number} END"
    if _is_decimal(kind):
        # DuckDB writes the numbers of a DECIMAL(2,2) without the 0 before the point, which JSON demands.
        number = f"REGEXP_REPLACE(CAST({key} AS VARCHAR), '^(-?)\\.', '\\10.')"
        return f"RTRIM(RTRIM({number}, '0'), '.')"
    if _is_nested(kind):
        return _finite(f"TO_JSON({key})")
    return f"CAST({_typed(key, kind)} AS VARCHAR)"


def _suffix(path: Path) -> str:
    return next(iter(path.name.split(".", 1)[1:]), "text")
