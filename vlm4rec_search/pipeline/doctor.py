"""Compares the tables of the warehouse with the release that answers, and looks for what searches suffer from."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
_TOLERANCE = 1e-4  # distance between two vectors that are the same
_LIVE = """
CREATE TABLE live (item_id VARCHAR, title VARCHAR, description VARCHAR, caption VARCHAR, category VARCHAR, price DOUBLE,
    available BOOLEAN, image VARCHAR, content_hash VARCHAR, vector FLOAT[], popularity FLOAT,
    neighbours STRUCT(item_id VARCHAR, similarity DOUBLE)[])
"""
_FIELDS = ("title", "description", "caption", "category", "price", "available", "image", "content_hash")
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
_MOVED = f"""
SELECT item_id FROM live INNER JOIN documents USING (item_id) INNER JOIN vectors USING (document)
WHERE CASE WHEN len(live.vector) = len(vectors.vector)
    THEN coalesce(list_distance(live.vector, vectors.vector), 1) > {_TOLERANCE} ELSE TRUE END
"""  # noqa: S608
_LIVE_HASHES = "CREATE OR REPLACE TABLE live_hashes (id VARCHAR, body_hash VARCHAR)"
_BY_HASH = {
    "missing": "SELECT id FROM told ANTI JOIN live_hashes USING (id)",
    "extra": "SELECT id FROM live_hashes ANTI JOIN told USING (id)",
    "stale": """
        SELECT id FROM told INNER JOIN live_hashes AS live USING (id)
        WHERE live.body_hash IS DISTINCT FROM told.body_hash
    """,
}

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong: kind, how many, and a few of them. An `error` must not be; a `warning` is for people to judge.

    Kinds of errors: wrong_model; missing (from the index), extra, stale, vector_mismatch of items, and stale_behaviour
    where popularity or co-purchases are others; missing_profiles, extra_profiles, stale_profiles of shoppers, and the
    same of segments. Kinds of warnings: duplicate_captions (items that share theirs), hubs (items in too many shoppers'
    hits), never_shown (in nobody's).
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the fields."""
        return asdict(self)


def examine(releases: Releases, handed: SearchLayer, users: int) -> list[Finding]:
    """Return the findings on the release that answers, none where all is well.

    Args:
        releases: of the index.
        handed: the search layer of the warehouse.
        users: how many shoppers' hits are looked at.

    Raises:
        UsageError: nothing is published, or the release is of another schema version.
        RunError: the index cannot be read.
    """
    name = releases.find(None)
    live = releases.whole()[name]
    check_readable(name, live.schema_version, live.analyzer)
    with duckdb_errors(), duckdb.connect() as connection:
        made = stage_release(connection, handed.tables, handed.new_release(live.checks), lambda _: None)
        connection.execute(_LIVE)
        for batch in releases.documents(name, (*COLUMNS, *BEHAVIOUR)):
            connection.register("batch", batch)
            connection.execute("INSERT INTO live BY NAME SELECT * FROM batch")
        other = list(_other_make(live, made))
        found = [_finding("wrong_model", "error", other)]
        found += [_finding(kind, "warning" if kind == "duplicate_captions" else "error", _ids(connection, sql))
                  for kind, sql in _QUERIES.items()]  # fmt: skip
        if not other:
            found.append(_finding("vector_mismatch", "error", _ids(connection, _MOVED)))
        found += _by_hash(connection, "profiles", releases.hashes(name, "profiles"), same_make=not other)
        found += _by_hash(connection, "segments", releases.hashes(name, "segments"), same_make=True)
        found += _shown(releases, name, users, _ids(connection, "SELECT item_id FROM live"))
    return [finding for finding in found if finding.count]


def _by_hash(
    connection: duckdb.DuckDBPyConnection, kind: Hashed, live: Iterator[pa.RecordBatch], same_make: bool
) -> Iterator[Finding]:
    """Compare by id and, where what is in them is of the same make, by hash."""
    connection.execute(_LIVE_HASHES)
    connection.execute(f"CREATE OR REPLACE VIEW told AS {HASHES[kind]}")
    for batch in live:
        connection.register("batch", batch)
        connection.execute("INSERT INTO live_hashes SELECT * FROM batch")
    for fault, sql in _BY_HASH.items():
        if same_make or fault != "stale":
            yield _finding(f"{fault}_{kind}", "error", _ids(connection, sql))


def _other_make(live: ReleaseMeta, made: ReleaseMeta) -> Iterator[str]:
    for name in ("encoder", "dimension"):
        old, wanted = getattr(live, name), getattr(made, name)
        if old != wanted:
            yield f"{name} {old} in the index, {wanted} in the tables"


def _shown(releases: Releases, name: str, users: int, items: Sequence[str]) -> Iterator[Finding]:
    """Count in how many shoppers' nearest items each item is."""
    seen_by: Counter[str] = Counter()
    asked = 0
    with releases.open(name) as index:
        for user in releases.users(name, users):
            hits = index.search(Query(user=user, mode="semantic", k=TOP, diversity=0.0)).hits
            seen_by.update(hit.item_id for hit in hits)
            asked += bool(hits)
    if asked:
        crowd = max(HUB, min(3 * TOP / len(items), 1.0)) * asked  # in a small catalogue each item is in many
        yield _finding("hubs", "warning", [item for item, count in seen_by.most_common() if count > crowd])
        yield _finding("never_shown", "warning", [item for item in items if item not in seen_by])


def _ids(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return sorted(item for (item,) in connection.execute(sql).fetchall())


def _finding(kind: str, severity: Severity, items: Sequence[str]) -> Finding:
    return Finding(kind, severity, len(items), tuple(items[:EXAMPLES]))
