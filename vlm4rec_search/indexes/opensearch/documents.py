"""The documents of a release for a server, and their differences from the documents of an index.

`prepare_documents` makes a table `outgoing_<kind>` for each kind of document, with one row for each and a hash of the
whole row. Two documents are the same if they have the same hash, so that an incremental publication sends only the
others.
"""

from collections.abc import Iterator
from itertools import islice

import duckdb
import orjson
import pyarrow as pa
from opensearchpy import OpenSearch, helpers

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.checks import check_loss
from vlm4rec_search.indexes.opensearch import bulk
from vlm4rec_search.indexes.opensearch.bulk import Operation
from vlm4rec_search.indexes.opensearch.mapping import ID_COLUMNS, LONGEST_ID, VECTORS, IndexKind, field_name
from vlm4rec_search.indexes.staging import RANGE, count_rows
from vlm4rec_search.indexes.tables import BODY_HASH
from vlm4rec_search.search.release import ReleaseMeta

BATCH = 1_000  # documents in memory
_PAGE = 5_000  # hashes that one request reads
_GUARDED: tuple[IndexKind, ...] = ("items", "profiles")
_JSON = ("attributes", "facets", "numbers")  # columns of JSON text, which documents contain as JSON
_HASHES = ("content_hash", "body_hash")
_SCHEMA = pa.schema([("id", pa.string()), *((name, pa.string()) for name in _HASHES)])

_REJECT = """
INSERT INTO rejected SELECT 'document', item_id, title, 'item_id of more than ' || $longest || ' bytes'
FROM documents WHERE strlen(item_id) > $longest;
INSERT INTO rejected SELECT 'user', user_id, NULL, 'user_id of more than ' || $longest || ' bytes'
FROM users WHERE strlen(user_id) > $longest;
INSERT INTO rejected SELECT 'segment', segment, NULL, 'segment of more than ' || $longest || ' bytes'
FROM segments WHERE strlen(segment) > $longest;
"""
# The weights of an item's words depend on all items. An item is not sent again when only they change, so that one new
# item does not change every document; a whole release brings them up to date.
_ITEM_HASH = "sha256(to_json(struct_update(body, words := NULL))::VARCHAR) AS body_hash"
# Neighbours are two lists: of a list of pairs, a search would have to build thousands of objects.
_CREATE = "CREATE TABLE outgoing_{kind} AS SELECT *, {body_hash} FROM ({rows}) AS body"
_ADD = "INSERT INTO outgoing_{kind} SELECT *, {body_hash} FROM ({rows}) AS body"
# Of a range of documents, since aggregates of lists have to fit into memory.
_DOCUMENTS, _VECTORS, _FACETS, _POPULARITY, _WORDS, _NEIGHBOURS, _EASE, _FITTED, _PHOTOS = (
    f"(SELECT * FROM {table} WHERE document >= $low AND document < $high) AS {table}"  # noqa: S608  our own names
    for table in ("documents", "vectors", "facets", "popularity", "words", "neighbours", "ease", "fitted", "photos")
)
_ROWS = {
    "items": f"""
        WITH fields AS (
            SELECT document, name, list(DISTINCT value ORDER BY value) AS "values",
                list(DISTINCT number ORDER BY number) FILTER (number IS NOT NULL) AS numbers
            FROM {_FACETS} INNER JOIN facet_names USING (field) GROUP BY document, name
        ), objects AS (
            SELECT document,
                string_agg(to_json(name)::VARCHAR || ':' || to_json("values")::VARCHAR, ',' ORDER BY name) AS facets,
                string_agg(to_json(name)::VARCHAR || ':' || to_json(numbers)::VARCHAR, ',' ORDER BY name) AS numbers
            FROM fields GROUP BY document
        )
        SELECT item_id, title, description, caption, details, category, price, available, image,
            attributes::VARCHAR AS attributes, '{{' || coalesce(facets, '') || '}}' AS facets,
            '{{' || coalesce(numbers, '') || '}}' AS numbers, coalesce(score, 0) AS popularity,
            coalesce(shoppers, 0) AS shoppers, coalesce(recent, 0) AS recent_shoppers,
            coalesce(words, []) AS words, struct_pack(
                item_id := list_transform(coalesce(neighbours, []), neighbour -> neighbour.item_id),
                similarity := list_transform(coalesce(neighbours, []), neighbour -> neighbour.similarity)
            ) AS neighbours, struct_pack(
                item_id := list_transform(coalesce(ease, []), neighbour -> neighbour.item_id),
                weight := list_transform(coalesce(ease, []), neighbour -> neighbour.weight)
            ) AS ease, vector, fitted, photo, content_hash
        FROM {_DOCUMENTS} INNER JOIN {_VECTORS} USING (document) LEFT JOIN objects USING (document)
            LEFT JOIN {_POPULARITY} USING (document) LEFT JOIN {_WORDS} USING (document)
            LEFT JOIN {_NEIGHBOURS} USING (document) LEFT JOIN {_EASE} USING (document)
            LEFT JOIN {_FITTED} USING (document) LEFT JOIN {_PHOTOS} USING (document)
        WHERE strlen(item_id) <= $longest ORDER BY item_id
    """,  # noqa: S608
    "profiles": "SELECT * FROM users WHERE strlen(user_id) <= $longest ORDER BY user_id",
    "segments": "SELECT * FROM segments WHERE strlen(segment) <= $longest ORDER BY segment",
}


def prepare_documents(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Make the tables `outgoing_<kind>` from the tables of `stage_release`, and return the fields that filters may use.

    Documents whose id is too long for the server go to the table `rejected`.
    """
    rows = connection.execute("SELECT DISTINCT field FROM facets ORDER BY field").fetchall()
    facets = [str(field) for (field,) in rows]
    names = pa.table({"field": pa.array(facets, pa.string()), "name": pa.array(map(field_name, facets), pa.string())})
    connection.register("facet_names", names)
    for statement in _REJECT.strip().rstrip(";").split(";\n"):
        connection.execute(statement, {"longest": LONGEST_ID})
    for kind in ("profiles", "segments"):
        create = _CREATE.format(kind=kind, rows=_ROWS[kind], body_hash=BODY_HASH)
        connection.execute(create, {"longest": LONGEST_ID})
    total = count_rows(connection, "documents")
    with bar("preparing documents", total) as advance:
        for low in range(0, max(total, 1), RANGE):
            statement = _ADD if low else _CREATE
            given = {"longest": LONGEST_ID, "low": low, "high": low + RANGE}
            connection.execute(statement.format(kind="items", rows=_ROWS["items"], body_hash=_ITEM_HASH), given)
            advance(min(RANGE, total - low))
    connection.unregister("facet_names")
    return facets


def read_bodies(connection: duckdb.DuckDBPyConnection, kind: IndexKind, where: str = "TRUE") -> Iterator[Operation]:
    """Yield operations that index the documents of a kind; at most `BATCH` of them are in memory.

    Args:
        connection: with the tables of `prepare_documents`.
        kind: which of the tables.
        where: a condition on its columns, in SQL of this package, never of a user.
    """
    sql = f"SELECT * FROM outgoing_{kind} AS outgoing WHERE {where}"  # noqa: S608  no text of a user
    batches = connection.cursor().execute(sql).to_arrow_reader(BATCH)
    if kind == "segments":
        rows = (row for batch in batches for row in batch.to_pylist())
        return ((row["segment"], orjson.dumps(row)) for row in rows)
    vectors = [name for name in VECTORS if name in batches.schema.names]
    return bulk.documents(batches, ID_COLUMNS[kind], vectors, _JSON if kind == "items" else ())


_SAME = "EXISTS (SELECT 1 FROM {table} AS old WHERE old.id = outgoing.{id} AND old.body_hash = outgoing.body_hash)"
_GONE = "SELECT old.id FROM {table} AS old ANTI JOIN outgoing_{kind} AS outgoing ON outgoing.{id} = old.id"


def read_hashes(client: OpenSearch, index: str | None, connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Make a table (id, content_hash, body_hash) of the documents of an index, page by page; empty without an index."""
    connection.register("no_hashes", _SCHEMA.empty_table())
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM no_hashes")  # noqa: S608  names of this package
    connection.unregister("no_hashes")
    for page in scan_hashes(client, index) if index else ():
        connection.register("page", page)
        connection.execute(f"INSERT INTO {table} SELECT * FROM page")  # noqa: S608
        connection.unregister("page")


def scan_hashes(client: OpenSearch, index: str) -> Iterator[pa.RecordBatch]:
    """Yield id, content_hash (only items have one) and body_hash of all documents of an index."""
    query = {"_source": False, "docvalue_fields": list(_HASHES), "query": {"match_all": {}}}
    hits = helpers.scan(client, query, index=index, size=_PAGE, request_timeout=120)
    while page := list(islice(hits, _PAGE)):
        fields = [(hit["_id"], hit.get("fields", {})) for hit in page]
        rows = [{"id": item, **{name: values[0] for name, values in stored.items()}} for item, stored in fields]
        yield pa.RecordBatch.from_pylist(rows, _SCHEMA)


def find_updates(connection: duckdb.DuckDBPyConnection, kind: IndexKind, table: str) -> tuple[Iterator[Operation], int]:
    """Return the operations that turn an index with the documents of `table` into the outgoing documents.

    Args:
        connection: with the tables of `prepare_documents`.
        kind: of the documents.
        table: from `read_hashes`.

    Returns:
        the operations, deletions first, and their number.
    """
    changed = "NOT " + _SAME.format(table=table, id=ID_COLUMNS[kind])
    gone = connection.execute(_GONE.format(table=table, kind=kind, id=ID_COLUMNS[kind])).fetchall()
    sql = f"SELECT count(*) FROM outgoing_{kind} AS outgoing WHERE {changed}"  # noqa: S608  names of this package
    (number,) = connection.execute(sql).fetchone() or (0,)

    def operations() -> Iterator[Operation]:
        yield from ((str(name), None) for (name,) in gone)
        yield from read_bodies(connection, kind, changed)

    return operations(), len(gone) + number


def check_losses(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse to delete many of the live items or profiles, see `check_loss`.

    Args:
        connection: with the tables of `prepare_documents`, and the tables `live_<kind>` of `read_hashes`.

    Raises:
        RunError: the publication would delete too many.
    """
    for kind in _GUARDED:
        table = f"live_{kind}"
        gone = connection.execute(_GONE.format(table=table, kind=kind, id=ID_COLUMNS[kind])).fetchall()
        check_loss(len(gone), len(connection.table(table)), kind)


def check_compatible(live: ReleaseMeta, new: ReleaseMeta) -> None:
    """Refuse an incremental publication onto a release whose documents cannot be compared with the new ones.

    Raises:
        UsageError: encoder, dimension, analyzer, schema version, fit of the learned vectors, or image encoder differ.
    """
    for name in ("encoder", "dimension", "analyzer", "schema_version", "fitted", "image_encoder"):
        old, wanted = getattr(live, name), getattr(new, name)
        if old != wanted:
            raise UsageError(
                f"{live.name} has the {name.replace('_', ' ')} {old}, the tables have {wanted}: publish a whole"
                " release, without --incremental"
            )
