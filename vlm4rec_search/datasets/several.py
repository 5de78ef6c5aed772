"""Reads the files of a table as one relation, for the commands that rewrite a table."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import duckdb

from vlm4rec_search.common.sql import quote_text
from vlm4rec_search.datasets.columns import shared_names
from vlm4rec_search.datasets.declarations import CONTRACT, TableDeclaration
from vlm4rec_search.datasets.records import EmptyFileError, Records, open_records, with_partitions


@dataclass(frozen=True)
class FilesRecords(Records):
    """The records of the files of a table.

    Attributes:
        headers: the columns of a file under their own names -> the files that have just these.
    """

    headers: Mapping[tuple[str, ...], Sequence[str]] = field(default_factory=dict)


@contextmanager
def open_files(
    connection: duckdb.DuckDBPyConnection, folder: Path, paths: Sequence[Path], table: str, declared: TableDeclaration
) -> Iterator[FilesRecords]:
    """Read the files of a table one after the other; a column that a file lacks is NULL, and an empty file is a note.

    The relations have a further column `file`, the path relative to `folder`. They are valid inside of the block. Where
    the headers of the files differ, `shared_names` says which columns are one; so are those of other names that differ
    in letter case only.

    Raises:
        UsageError: as `open_records`, for any of the files.
    """
    with ExitStack() as stack:
        files: dict[str, Records] = {}
        notes = []
        for path in paths:
            name = relative_name(path, folder)
            try:
                records = stack.enter_context(open_records(connection, path, table, declared))
            except EmptyFileError:
                if path == paths[-1] and not files:
                    raise
                notes.append(f"{name} is empty: it has no header and no rows")
                continue
            files[name] = with_partitions(records, name, declared.partitions)
        headers: dict[tuple[str, ...], list[str]] = {}
        for name, records in files.items():
            headers.setdefault(tuple(records.values), []).append(name)
        if len(headers) > 1:
            known, firsts = [*declared.named_columns, *CONTRACT[table]], dict[str, str]()
            files = {name: _renamed(records, known, firsts) for name, records in files.items()}
        columns = list(dict.fromkeys(column for records in files.values() for column in records.values))
        keys = {column: f"k{position}" for position, column in enumerate(columns)}
        typed = dict.fromkeys(column for records in files.values() for column in records.numbers)
        numbers = {column: f"n{position}" for position, column in enumerate(typed)}
        rows, broken = [], []
        for name, records in files.items():
            as_numbers = {**records.values, **records.numbers}
            sources = [(records.values.get(column), key) for column, key in keys.items()]
            sources += [(as_numbers.get(column), key) for column, key in numbers.items()]
            values = [f"CAST({sql or 'NULL'} AS VARCHAR) AS {key}" for sql, key in sources]
            head = f"{quote_text(name)} AS file, line"
            rows.append(records.relation.project(", ".join([head, *values])))
            broken.append(records.broken.project(f"{head}, reason, record"))
        yield FilesRecords(
            relation=_union(rows),
            rows=sum(records.rows for records in files.values()),
            values=keys,
            typed=keys,
            broken=_union(broken),
            broken_rows=sum(records.broken_rows for records in files.values()),
            written="\n".join(f"{name}: {records.written}, {records.rows} rows" for name, records in files.items()),
            notes=(*notes, *(f"{name}: {note}" for name, records in files.items() for note in records.notes)),
            numbers=numbers,
            headers=headers,
        )


def relative_name(path: Path, folder: Path) -> str:
    """Return the path relative to the folder, or the whole path of a file elsewhere."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _renamed(records: Records, known: Sequence[str], firsts: dict[str, str]) -> Records:
    """Name the columns as in `shared_names`, the others as in the first file that has them in any letter case.

    `firsts`, name in small letters -> name in that file, gets the columns that are new.
    """
    shared = shared_names(list(records.values), known)
    names = {column: firsts.setdefault(name.casefold(), name) for column, name in shared.items()}
    kinds = (records.values, records.typed, records.numbers)
    values, typed, numbers = ({names[column]: sql for column, sql in kind.items()} for kind in kinds)
    return replace(records, values=values, typed=typed, numbers=numbers)


def _union(relations: Sequence[duckdb.DuckDBPyRelation]) -> duckdb.DuckDBPyRelation:
    """Return the rows of all relations in their order.

    Pairs are joined, and pairs of pairs: DuckDB looks through both sides of each union, and a chain of them takes the
    square of their number.
    """
    while len(relations) > 1:
        pairs = zip_longest(relations[::2], relations[1::2])
        relations = [left.union(right) if right is not None else left for left, right in pairs]
    return relations[0]
