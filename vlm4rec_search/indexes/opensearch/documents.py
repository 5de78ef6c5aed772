"""The documents of a release as its tables say them: columns as they are indexed, and a hash of the whole."""

from collections.abc import Iterator
from itertools import islice

import duckdb
import orjson
import pyarrow as pa
from opensearchpy import OpenSearch, helpers

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch import bulk
from vlm4rec_search.indexes.opensearch.bulk import Operation
from vlm4rec_search.indexes.opensearch.mapping import ID_COLUMNS, KINDS, LONGEST_ID, Kind, field_name
from vlm4rec_search.indexes.release import ReleaseMeta
from vlm4rec_search.indexes.tables import BODY_HASH

BATCH = 1_000  # rows in memory
_JSON = ("attributes", "facets", "numbers")  # columns of JSON text, written as they are

_REJECT = """
INSERT INTO rejected SELECT 'document', item_id, title, 'item_id of more than ' || $longest || ' bytes'
FROM documents WHERE strlen(item_id) > $longest;
INSERT INTO rejected SELECT 'user', user_id, NULL, 'user_id of more than ' || $longest || ' bytes'
FROM users WHERE strlen(user_id) > $longest;
INSERT INTO rejected SELECT 'segment', segment, NULL, 'segment of more than ' || $longest || ' bytes'
FROM segments WHERE strlen(segment) > $longest;
"""
# The words of an item hang a little on every other item: an item is not sent again for that, a whole release does it.
_ITEM_HASH = "sha256(to_json(struct_update(body, words := NULL))::VARCHAR) AS body_hash"
# Neighbours are two lists, since a reader makes an object of each pair otherwise, thousands for a search.
_CREATE = "CREATE TABLE outgoing_{kind} AS SELECT *, {body_hash} FROM ({rows}) AS body"
_ROWS = {
    "items": """
        WITH listed AS (
            SELECT document, name, list(DISTINCT value ORDER BY value) AS "values",
                list(DISTINCT number ORDER BY number) FILTER (number IS NOT NULL) AS numbers
            FROM facets INNER JOIN facet_names USING (field) GROUP BY document, name
        ), told AS (
            SELECT document,
                string_agg(to_json(name)::VARCHAR || ':' || to_json("values")::VARCHAR, ',' ORDER BY name) AS facets,
                string_agg(to_json(name)::VARCHAR || ':' || to_json(numbers)::VARCHAR, ',' ORDER BY name) AS numbers
            FROM listed GROUP BY document
        )
        SELECT item_id, title, description, caption, category, price, available, image,
            attributes::VARCHAR AS attributes, '{' || coalesce(facets, '') || '}' AS facets,
            '{' || coalesce(numbers, '') || '}' AS numbers, coalesce(score, 0) AS popularity,
            coalesce(words, []) AS words, struct_pack(
                item_id := list_transform(coalesce(neighbours, []), near -> near.item_id),
                similarity := list_transform(coalesce(neighbours, []), near -> near.similarity)
            ) AS neighbours, vector, content_hash
        FROM documents INNER JOIN vectors USING (document) LEFT JOIN told USING (document)
            LEFT JOIN popularity USING (document) LEFT JOIN words USING (document)
            LEFT JOIN neighbours USING (document)
        WHERE strlen(item_id) <= $longest ORDER BY item_id
    """,
    "profiles": "SELECT * FROM users WHERE strlen(user_id) <= $longest ORDER BY user_id",
    "segments": "SELECT * FROM segments WHERE strlen(segment) <= $longest ORDER BY segment",
}


def prepare(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Make the tables `outgoing_<kind>` of what `stage` has left, and return the fields that filters may name.

    Documents whose id is too long for the server go to the table `rejected`.
    """
    rows = connection.execute("SELECT DISTINCT field FROM facets ORDER BY field").fetchall()
    facets = [str(field) for (field,) in rows]
    names = pa.table({"field": pa.array(facets, pa.string()), "name": pa.array(map(field_name, facets), pa.string())})
    connection.register("facet_names", names)
    for statement in (
        *_REJECT.strip().split(";\n"),
        *(_CREATE.format(kind=k, rows=_ROWS[k], body_hash=_ITEM_HASH if k == "items" else BODY_HASH) for k in KINDS),
    ):
        connection.execute(statement.rstrip(";"), {"longest": LONGEST_ID})
    connection.unregister("facet_names")
    return facets


def read_bodies(connection: duckdb.DuckDBPyConnection, kind: Kind, where: str = "TRUE") -> Iterator[Operation]:
    """Yield the documents of a kind, in batches of `BATCH`, as operations that index them whole.

    Args:
        connection: with the tables of `prepare`.
        kind: which of them.
        where: SQL of this package's own, a condition on their columns.
    """
    sql = f"SELECT * FROM outgoing_{kind} AS outgoing WHERE {where}"  # noqa: S608  no text of a user
    batches = connection.cursor().execute(sql).to_arrow_reader(BATCH)
    if kind == "segments":
        rows = (row for batch in batches for row in batch.to_pylist())
        return ((row["segment"], orjson.dumps(row)) for row in rows)
    return bulk.documents(batches, ID_COLUMNS[kind], "vector", _JSON if kind == "items" else ())


# What is different between the tables and an index: read from the server by hash, compared in SQL.

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
