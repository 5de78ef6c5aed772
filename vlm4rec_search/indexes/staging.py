"""Copies the tables of the search layer into a DuckDB connection, as every backend publishes them.

Each document and each user is judged on its own: the tables of a release hold those that can be searched, and the table
`rejected` holds the others with the reason.
"""

import logging
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import duckdb
import pyarrow as pa

from vlm4rec_search.common.errors import RunError, first_line
from vlm4rec_search.common.progress import Advance
from vlm4rec_search.indexes import tables
from vlm4rec_search.indexes.checks import verify_rows
from vlm4rec_search.indexes.search_layer import MODELS, PHOTOS, Frame, Model, SearchTables
from vlm4rec_search.search.model import MAX_ITEMS
from vlm4rec_search.search.release import ReleaseMeta

logger = logging.getLogger(__name__)

RANGE = 5_000
"""Documents whose lists are in memory at once: 0.7 GB with 100 words and 150 neighbours each, also with 16 threads."""
STEPS = 5  # how often `stage_release` advances its progress bar
_CHANGES = {
    "added": "old.item_id IS NULL",
    "changed": "old.item_id = new.item_id AND old.content_hash IS DISTINCT FROM new.content_hash",
    "deleted": "new.item_id IS NULL",
}
_JOINED = "FROM {new} AS new FULL JOIN {old} AS old ON old.item_id = new.item_id"


def stage_release(
    connection: duckdb.DuckDBPyConnection,
    given: SearchTables[Frame],
    meta: ReleaseMeta,
    advance: Advance,
    forgotten: Container[str] = frozenset(),
) -> ReleaseMeta:
    """Create and fill the tables of a release, and return its metadata with the numbers of documents and users.

    A document or user is rejected when its id is missing or repeated, when its vector is missing, has another
    dimension, is not finite or not of length 1, or when another encoder made the vector. The first row with an id
    stays. Users who are forgotten are left out; the table `rejected` does not name them.

    Args:
        connection: an empty database.
        given: the tables of the search layer.
        meta: of the release; its encoder and dimension are those that the vectors must have.
        advance: called `STEPS` times.
        forgotten: contains the ids of shoppers whom the tables may still have.

    Raises:
        UsageError: a column is missing.
        RunError: no document can be published, or a row is neither published nor rejected.
    """
    _register_tables(connection, given)
    connection.execute(tables.CREATE)
    connection.execute(tables.JUDGE_DOCUMENTS, {"dimension": meta.dimension, "encoder": meta.encoder})
    connection.execute(tables.JUDGE_USERS, {"dimension": meta.dimension, "fitted_dimension": meta.fitted_dimension})
    if left_out := leave_out(connection, forgotten, "judged_users", "user_id"):
        logger.info("%d forgotten shoppers are left out; `sqlmesh plan` removes them from the tables", len(left_out))
    connection.execute(tables.JUDGE_REPEATED)
    connection.execute(tables.COPY_DOCUMENTS)
    _require_documents(connection)
    if meta.image_encoder is not None:
        connection.execute(tables.COPY_PHOTOS)
    advance(1)
    connection.execute(tables.COPY_FACETS)
    advance(1)
    connection.execute(tables.COPY_BEHAVIOUR, {"listed": MAX_ITEMS})
    advance(1)
    documents = count_rows(connection, "documents")
    kind = "TABLE" if documents > RANGE else "VIEW"  # one range reads its rows once anyway
    for name, copy in tables.COPY_LISTS.items():
        connection.execute(tables.NUMBER_LISTED.format(kind=kind, name=name))
        for low in range(0, documents, RANGE):
            connection.execute(copy, {"low": low, "high": low + RANGE})
    connection.execute(f"DROP {kind} listed")
    advance(1)
    connection.execute(tables.COPY_USERS)
    meta = replace(meta, documents=documents, users=count_rows(connection, "users"))
    values, release = asdict(meta), connection.table("release")
    release.insert([values[column] for column in release.columns])
    verify_rows(connection)
    advance(1)
    return meta


def leave_out(
    connection: duckdb.DuckDBPyConnection, forgotten: Container[str], table: str, column: str, where: str = "TRUE"
) -> list[str]:
    """Delete the rows of shoppers from a table, and return the ids that were there; the names are of this package."""
    ids = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {where}").fetchall()  # noqa: S608
    found = [user for (user,) in ids if user in forgotten]
    if found:
        statement = f"DELETE FROM {table} WHERE {where} AND {column} IN (SELECT unnest(?))"  # noqa: S608
        connection.execute(statement, [found])
    return found


def count_rows(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """Return the number of rows of a table."""
    return len(connection.table(table))


def count_changes(connection: duckdb.DuckDBPyConnection, old: str, new: str) -> tuple[int, int, int]:
    """Return how many documents are added, changed (they have another content) and deleted from old to new.

    Args:
        connection: to a database.
        old, new: tables or subqueries of this package with item_id and content_hash.
    """
    counts = ", ".join(f"count(*) FILTER ({change})" for change in _CHANGES.values())
    joined = _JOINED.format(old=old, new=new)
    added, changed, deleted = connection.execute(f"SELECT {counts} {joined}").fetchone() or (0, 0, 0)
    return added, changed, deleted


def list_changes(connection: duckdb.DuckDBPyConnection, old: str, new: str, limit: int) -> dict[str, list[str]]:
    """Return the first ids, at most `limit`, of the documents that `count_changes` counts: added, changed, deleted."""
    ids, joined = "SELECT coalesce(new.item_id, old.item_id) AS id", _JOINED.format(old=old, new=new)
    found = {}
    for kind, change in _CHANGES.items():
        rows = connection.execute(f"{ids} {joined} WHERE {change} ORDER BY id LIMIT {limit}").fetchall()
        found[kind] = [item for (item,) in rows]
    return found


@contextmanager
def duckdb_errors() -> Iterator[None]:
    """Turn an error of DuckDB into one of this package.

    Raises:
        RunError: DuckDB raised an error; the message is its first line.
    """
    try:
        yield
    except duckdb.Error as error:
        raise RunError(f"the release was not published: {first_line(error)}") from error


def _register_tables(connection: duckdb.DuckDBPyConnection, given: SearchTables[Frame]) -> None:
    for name, model in MODELS.items():
        _register(connection, name, model, getattr(given, name))
    if given.photos is not None:
        _register(connection, "photos", PHOTOS, given.photos)


def _register(connection: duckdb.DuckDBPyConnection, name: str, model: Model, frame: Frame) -> None:
    model.require_columns(frame.column_names if isinstance(frame, pa.Table) else list(frame.columns))
    rows = frame.to_arrow_table() if isinstance(frame, duckdb.DuckDBPyRelation) else frame
    connection.register(f"incoming_{name}", rows)


def _require_documents(connection: duckdb.DuckDBPyConnection) -> None:
    if count_rows(connection, "documents"):
        return
    row = connection.execute("SELECT reason, count(*) FROM rejected GROUP BY reason ORDER BY 2 DESC").fetchone()
    why = f"all documents were rejected, {row[1]} of them for: {row[0]}" if row else "there are no documents"
    raise RunError(f"the release was not published: {why}")
