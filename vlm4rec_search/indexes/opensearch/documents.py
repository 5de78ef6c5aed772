"""The documents of a release as its tables say them: columns as they are indexed, and a hash of the whole."""

from collections.abc import Iterator

import duckdb
import orjson
import pyarrow as pa

from vlm4rec_search.indexes.opensearch import old_bulk
from vlm4rec_search.indexes.opensearch.mapping import ID_COLUMNS, KINDS, LONGEST_ID, Kind, field_name
from vlm4rec_search.indexes.opensearch.old_bulk import Operation
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
    return old_bulk.documents(batches, ID_COLUMNS[kind], "vector", _JSON if kind == "items" else ())
