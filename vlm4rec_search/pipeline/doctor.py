"""Compares the live release with the tables of the warehouse, and looks for items that spoil its searches."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb
import pyarrow as pa

from vlm4rec_search.indexes.release import ReleaseMeta, check_readable
from vlm4rec_search.indexes.releases import BEHAVIOUR, COLUMNS, Hashed, Releases
from vlm4rec_search.indexes.search_layer import SearchLayer
from vlm4rec_search.indexes.staging import duckdb_errors, stage_release
from vlm4rec_search.indexes.tables import HASHES
from vlm4rec_search.search.query import Query

TOP = 10
HUB = 0.25  # an item in more than this share of the shoppers' hits is a hub
EXAMPLES = 5
_TOLERANCE = 1e-4  # distance up to which two vectors count as equal
_LIVE = """
CREATE TABLE live (item_id VARCHAR, title VARCHAR, description VARCHAR, caption VARCHAR, details VARCHAR,
    category VARCHAR, price DOUBLE, available BOOLEAN, image VARCHAR, content_hash VARCHAR, vector FLOAT[],
    popularity FLOAT, neighbours STRUCT(item_id VARCHAR, similarity DOUBLE)[])
"""
_FIELDS = ("title", "description", "caption", "details", "category", "price", "available", "image", "content_hash")
_BOTH = "FROM documents INNER JOIN live USING (item_id) WHERE "
_STALE = " OR ".join(f"documents.{name} IS DISTINCT FROM live.{name}" for name in _FIELDS)
_QUERIES = {
    "missing": "SELECT item_id FROM documents ANTI JOIN live USING (item_id)",
    "extra": "SELECT item_id FROM live ANTI JOIN documents USING (item_id)",
    "stale": f"SELECT item_id {_BOTH}{_STALE}",
    "stale_behaviour": """
        SELECT item_id
        FROM documents INNER JOIN live USING (item_id) LEFT JOIN popularity USING (document)
            LEFT JOIN neighbours AS near USING (document)
        WHERE coalesce(popularity.score, 0) IS DISTINCT FROM coalesce(live.popularity, 0)
            OR coalesce(near.neighbours, []) IS DISTINCT FROM coalesce(live.neighbours, [])
    """,
    "duplicate_captions": """
        SELECT item_id FROM live WHERE caption IS NOT NULL QUALIFY count(*) OVER (PARTITION BY caption) > 1
    """,
}
_MOVED_VECTORS = f"""
SELECT item_id FROM live INNER JOIN documents USING (item_id) INNER JOIN vectors USING (document)
WHERE CASE WHEN len(live.vector) = len(vectors.vector)
    THEN coalesce(list_distance(live.vector, vectors.vector), 1) > {_TOLERANCE} ELSE TRUE END
"""  # noqa: S608
_LIVE_HASHES = "CREATE OR REPLACE TABLE live_hashes (id VARCHAR, body_hash VARCHAR)"
_BY_HASH = {
    "missing": "SELECT id FROM staged_hashes ANTI JOIN live_hashes USING (id)",
    "extra": "SELECT id FROM live_hashes ANTI JOIN staged_hashes USING (id)",
    "stale": """
        SELECT id FROM staged_hashes INNER JOIN live_hashes AS live USING (id)
        WHERE live.body_hash IS DISTINCT FROM staged_hashes.body_hash
    """,
}

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, the number of affected ids, and a few of them. Errors have to be fixed; people judge warnings.

    Kinds of errors: wrong_model; missing, extra and stale items of the index; stale_behaviour (popularity or
    co-purchases differ); vector_mismatch; missing_profiles, extra_profiles, stale_profiles, and the same for segments.
    Kinds of warnings: duplicate_captions (items that share a caption), hubs (items among the hits of too many
    shoppers), never_shown (items among no shopper's hits).
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]


def examine(releases: Releases, search_layer: SearchLayer, users: int) -> list[Finding]:
    """Return the findings on the live release, an empty list if it is fine.

    Args:
        releases: of the index.
        search_layer: of the warehouse.
        users: number of shoppers whose hits are examined.

    Raises:
        UsageError: nothing is published, or the release is of another schema version.
        RunError: the index cannot be read.
    """
    name = releases.find(None)
    live = releases.list()[name]
    check_readable(name, live.schema_version, live.analyzer)
    with duckdb_errors(), duckdb.connect() as connection:
        staged = stage_release(connection, search_layer.tables, search_layer.new_release(live.checks), lambda _: None)
        connection.execute(_LIVE)
        for batch in releases.documents(name, (*COLUMNS, *BEHAVIOUR)):
            connection.register("batch", batch)
            connection.execute("INSERT INTO live BY NAME SELECT * FROM batch")
        model_changes = list(_model_changes(live, staged))
        same_model = not model_changes
        findings = [_finding("wrong_model", "error", model_changes)]
        for kind, sql in _QUERIES.items():
            severity: Severity = "warning" if kind == "duplicate_captions" else "error"
            findings.append(_finding(kind, severity, _ids(connection, sql)))
        if same_model:
            findings.append(_finding("vector_mismatch", "error", _ids(connection, _MOVED_VECTORS)))
        findings += _by_hash(connection, "profiles", releases.hashes(name, "profiles"), same_model)
        findings += _by_hash(connection, "segments", releases.hashes(name, "segments"), same_model=True)
        findings += _exposure(releases, name, users, _ids(connection, "SELECT item_id FROM live"))
    return [finding for finding in findings if finding.count]


def _by_hash(
    connection: duckdb.DuckDBPyConnection, kind: Hashed, live: Iterator[pa.RecordBatch], same_model: bool
) -> Iterator[Finding]:
    """Compare ids, and also hashes if the same model made the content."""
    connection.execute(_LIVE_HASHES)
    connection.execute(f"CREATE OR REPLACE VIEW staged_hashes AS {HASHES[kind]}")
    for batch in live:
        connection.register("batch", batch)
        connection.execute("INSERT INTO live_hashes SELECT * FROM batch")
    for fault, sql in _BY_HASH.items():
        if same_model or fault != "stale":
            yield _finding(f"{fault}_{kind}", "error", _ids(connection, sql))


def _model_changes(live: ReleaseMeta, staged: ReleaseMeta) -> Iterator[str]:
    for name in ("encoder", "dimension"):
        indexed, tabled = getattr(live, name), getattr(staged, name)
        if indexed != tabled:
            yield f"{name} {indexed} in the index, {tabled} in the tables"


def _exposure(releases: Releases, name: str, users: int, items: Sequence[str]) -> Iterator[Finding]:
    """Count how many shoppers have each item among their nearest items."""
    audiences: Counter[str] = Counter()
    shoppers = 0
    with releases.open(name) as index:
        for user in releases.users(name, users):
            hits = index.search(Query(user=user, mode="semantic", k=TOP, diversity=0.0)).hits
            audiences.update(hit.item_id for hit in hits)
            shoppers += bool(hits)
    if shoppers:
        limit = max(HUB, min(3 * TOP / len(items), 1.0)) * shoppers  # in a small catalogue every item has a large share
        yield _finding("hubs", "warning", [item for item, audience in audiences.most_common() if audience > limit])
        yield _finding("never_shown", "warning", [item for item in items if item not in audiences])


def _ids(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return sorted(item for (item,) in connection.execute(sql).fetchall())


def _finding(kind: str, severity: Severity, ids: Sequence[str]) -> Finding:
    return Finding(kind, severity, len(ids), tuple(ids[:EXAMPLES]))
