"""What is different between the tables and an index: read from the server by hash, compared in SQL."""

from collections.abc import Iterator
from itertools import islice

import duckdb
import pyarrow as pa
from opensearchpy import OpenSearch, helpers

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch.documents import read_bodies
from vlm4rec_search.indexes.opensearch.mapping import ID_COLUMNS, Kind
from vlm4rec_search.indexes.opensearch.old_bulk import Operation
from vlm4rec_search.indexes.release import ReleaseMeta

LARGEST_LOSS = 0.2  # of the documents that a release may have less than the one that answers, without force
_PAGE = 5_000
_HASHES = ("content_hash", "body_hash")
_SCHEMA = pa.schema([("id", pa.string()), *((name, pa.string()) for name in _HASHES)])
_SAME = "EXISTS (SELECT 1 FROM {table} AS old WHERE old.id = outgoing.{id} AND old.body_hash = outgoing.body_hash)"
_GONE = "SELECT old.id FROM {table} AS old ANTI JOIN outgoing_{kind} AS outgoing ON outgoing.{id} = old.id"
_ITEMS = """
SELECT count(*) FILTER (old.id IS NULL), count(*) FILTER (old.content_hash IS DISTINCT FROM outgoing.content_hash
    AND old.id = outgoing.item_id), count(*) FILTER (outgoing.item_id IS NULL)
FROM outgoing_items AS outgoing FULL JOIN live_items AS old ON old.id = outgoing.item_id
"""


def read_hashes(client: OpenSearch, index: str | None, connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Fill a new table (id, content_hash, body_hash) with what an index holds, nothing for None; constant memory."""
    connection.register("no_hashes", _SCHEMA.empty_table())
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM no_hashes")  # noqa: S608  our own names
    connection.unregister("no_hashes")
    for page in hashes(client, index) if index else ():
        connection.register("page", page)
        connection.execute(f"INSERT INTO {table} SELECT * FROM page")  # noqa: S608
        connection.unregister("page")


def hashes(client: OpenSearch, index: str) -> Iterator[pa.RecordBatch]:
    """Yield the documents of an index: id, content_hash (of items) and body_hash."""
    query = {"_source": False, "docvalue_fields": list(_HASHES), "query": {"match_all": {}}}
    hits = helpers.scan(client, query, index=index, size=_PAGE, request_timeout=120)
    while page := list(islice(hits, _PAGE)):
        rows = [{"id": hit["_id"], **{name: told[0] for name, told in hit.get("fields", {}).items()}} for hit in page]
        yield pa.RecordBatch.from_pylist(rows, _SCHEMA)


def count_changes(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    """Return how many items are added, changed (their content is) and deleted: `outgoing_items` and `live_items`."""
    added, changed, deleted = connection.execute(_ITEMS).fetchone() or (0, 0, 0)
    return added, changed, deleted


def updates(connection: duckdb.DuckDBPyConnection, kind: Kind, table: str) -> tuple[Iterator[Operation], int]:
    """Return what makes an index that holds `table` hold the outgoing documents, and how many operations that are."""
    same = "NOT " + _SAME.format(table=table, id=ID_COLUMNS[kind])
    gone = connection.execute(_GONE.format(table=table, kind=kind, id=ID_COLUMNS[kind])).fetchall()
    counted = connection.execute(f"SELECT count(*) FROM outgoing_{kind} AS outgoing WHERE {same}").fetchone()  # noqa: S608

    def operations() -> Iterator[Operation]:
        yield from ((str(name), None) for (name,) in gone)
        yield from read_bodies(connection, kind, same)

    return operations(), len(gone) + (counted[0] if counted else 0)


def check_losses(connection: duckdb.DuckDBPyConnection, kind: Kind, table: str) -> None:
    """Refuse to delete more than `LARGEST_LOSS` of what answers.

    Raises:
        RunError: it would be more.
    """
    gone = len(connection.execute(_GONE.format(table=table, kind=kind, id=ID_COLUMNS[kind])).fetchall())
    total = len(connection.table(table))
    if gone > LARGEST_LOSS * total:
        raise RunError(
            f"not published: {gone:,} of {total:,} {kind} would be deleted, more than {LARGEST_LOSS:.0%}; look at the"
            " tables, or publish with --force"
        )


def check_same_make(live: ReleaseMeta, new: ReleaseMeta) -> None:
    """Refuse to change a release of another make document by document.

    Raises:
        UsageError: encoder, dimension, analyzer or schema differ.
    """
    for name in ("encoder", "dimension", "analyzer", "schema_version"):
        old, wanted = getattr(live, name), getattr(new, name)
        if old != wanted:
            raise UsageError(
                f"{live.name} has the {name.replace('_', ' ')} {old}, the tables have {wanted}: publish a whole"
                " release, without --incremental"
            )
