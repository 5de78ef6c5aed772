"""Saved queries: SQL files that answer analysts' questions on the published copy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import RunError, UsageError, first_line
from vlm4rec_search.common.paths import read_text

FOLDER = "queries"  # in the package, and in a project for queries of its own
_PACKAGED = Path(__file__).with_name(FOLDER)


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """One question.

    Attributes:
        name: of the file, without .sql.
        description: the first line of the file, a comment.
        sql: one SELECT.
    """

    name: str
    description: str
    sql: str


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows of a saved query; values are of Python types."""

    query: SavedQuery
    columns: Sequence[str]
    rows: Sequence[tuple[object, ...]]


def load_queries(project: Path | None) -> list[SavedQuery]:
    """Return the saved queries of the package and of a project by name; a project's query replaces the packaged one.

    Raises:
        UsageError: a file cannot be read, or its first line is not a comment that describes it.
    """
    folders = (_PACKAGED, project / FOLDER) if project else (_PACKAGED,)
    files = {path.stem: path for folder in folders for path in sorted(folder.glob("*.sql"))}
    return [_load(files[name]) for name in sorted(files)]


def find_query(project: Path | None, name: str) -> SavedQuery:
    """Return a saved query by name.

    Raises:
        UsageError: there is no such query, or as `load_queries`.
    """
    queries = {query.name: query for query in load_queries(project)}
    if name not in queries:
        raise UsageError(f"there is no saved query {name}: `vlm4rec queries list` shows all of them")
    return queries[name]


def run_query(query: SavedQuery, copy: Path, limit: int | None = None) -> QueryResult:
    """Run a saved query on the published copy.

    Args:
        query: of `load_queries`.
        copy: DuckDB file of `vlm4rec publish-tables`.
        limit: the most rows to return; None for all.

    Raises:
        UsageError: there is no copy, it lacks a table, or the query is not valid SQL. The message says to correct a
            query that is not the package's.
        RunError: the copy cannot be read.
    """
    if not copy.is_file():
        raise UsageError(f"no copy of the tables at {copy}: run `vlm4rec publish-tables`, or set VLM4REC_PUBLISHED")
    try:
        with duckdb.connect(str(copy), read_only=True) as connection:
            result = connection.execute(query.sql)
            columns = [str(column[0]) for column in result.description]
            return QueryResult(query, columns, result.fetchall() if limit is None else result.fetchmany(limit))
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.ParserException) as error:
        advice = "run `vlm4rec publish-tables`"
        if query not in load_queries(None):
            advice = f"correct {FOLDER}/{query.name}.sql, or {advice} where the copy is older than what it reads"
        raise UsageError(f"the query {query.name} fails ({first_line(error)}): {advice}") from None
    except duckdb.Error as error:
        raise RunError(f"the query {query.name} fails on {copy}: {first_line(error)}") from None


def describe_age(copy: Path, records: Path) -> str | None:
    """Return a line where publications were recorded after a copy was made; None where the copy has all of them."""
    if not (copy.is_file() and records.is_file()):
        return None
    made, recorded = (datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in (copy, records))
    if made >= recorded:
        return None
    moments = f"of {made:%Y-%m-%d %H:%M} UTC, before the records of releases of {recorded:%Y-%m-%d %H:%M} UTC"
    return f"the copy is {moments}: run `vlm4rec publish-tables`"


def _load(path: Path) -> SavedQuery:
    header, _, sql = read_text(path, "the query").partition("\n")
    if not header.startswith("--") or not header.strip("- \t"):
        raise UsageError(f"{path}: the first line has to describe the query, such as `-- Which items sell best?`")
    return SavedQuery(path.stem, header.strip("- \t"), sql.strip().removesuffix(";"))
