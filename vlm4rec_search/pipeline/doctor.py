"""Compares the live release with the tables of the warehouse, and looks at what its ranking shows to shoppers."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import duckdb
import pyarrow as pa

from vlm4rec_search.common.warehouse import in_environment
from vlm4rec_search.embeddings.fitted import Inputs, read_fitted
from vlm4rec_search.indexes.opensearch.mapping import LONGEST_ID
from vlm4rec_search.indexes.releases import BEHAVIOUR, COLUMNS, Hashed, Releases
from vlm4rec_search.indexes.search_layer import SearchLayer
from vlm4rec_search.indexes.staging import duckdb_errors, stage_release
from vlm4rec_search.indexes.tables import HASHES
from vlm4rec_search.pipeline.exposure import measure_release
from vlm4rec_search.pipeline.idle_rules import find_idle_rules
from vlm4rec_search.pipeline.record import read_refused
from vlm4rec_search.search.exposure import Exposure
from vlm4rec_search.search.ranking import Ranking, ranking_of
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.rules import Rule

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
    "missing": "SELECT item_id FROM documents ANTI JOIN live USING (item_id) WHERE NOT refused('document', item_id)",
    "refused": "SELECT item_id FROM documents ANTI JOIN live USING (item_id) WHERE refused('document', item_id)",
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
_POPULARITY = "SELECT item_id, coalesce(popularity, 0) FROM live ORDER BY item_id"
_MOVED_VECTORS = f"""
SELECT item_id FROM live INNER JOIN documents USING (item_id) INNER JOIN vectors USING (document)
WHERE CASE WHEN len(live.vector) = len(vectors.vector)
    THEN coalesce(list_distance(live.vector, vectors.vector), 1) > {_TOLERANCE} ELSE TRUE END
"""  # noqa: S608
_LIVE_HASHES = "CREATE OR REPLACE TABLE live_hashes (id VARCHAR, body_hash VARCHAR)"
_BY_HASH = {
    "missing": "SELECT id FROM staged_hashes ANTI JOIN live_hashes USING (id) WHERE NOT refused('{kind}', id)",
    "refused": "SELECT id FROM staged_hashes ANTI JOIN live_hashes USING (id) WHERE refused('{kind}', id)",
    "extra": "SELECT id FROM live_hashes ANTI JOIN staged_hashes USING (id)",
    "stale": """
        SELECT id FROM staged_hashes INNER JOIN live_hashes AS live USING (id)
        WHERE live.body_hash IS DISTINCT FROM staged_hashes.body_hash
    """,
}

# A server refuses a longer id whatever its row holds.
_OF_LONG_IDS = f"DELETE FROM refused_ids WHERE strlen(id) <= {LONGEST_ID}"  # noqa: S608
_REFUSED = """
CREATE TABLE refused_ids (kind VARCHAR, id VARCHAR);
CREATE MACRO refused(of_kind, of_id) AS EXISTS (FROM refused_ids WHERE kind = of_kind AND id = of_id)
"""
_REFUSED_KINDS: dict[Hashed, str] = {"profiles": "user", "segments": "segment"}
_WARNINGS = ("refused", "duplicate_captions")

_FAULTS = {
    "missing": "only in the tables",
    "extra": "only in the index",
    "stale": "with other content than in the tables",
    "refused": "that publication refused (`dead_letters` says why)",
}
_PHRASES = {
    **{fault: f"document{{s}} {phrase}, such as {{examples}}" for fault, phrase in _FAULTS.items()},
    **{
        f"{fault}_{noun}s": f"{noun}{{s}} {phrase}, such as {{examples}}"
        for noun in ("profile", "segment")
        for fault, phrase in _FAULTS.items()
    },
    "stale_behaviour": "document{s} with other popularity or co-purchases than in the tables, such as {examples}",
    "vector_mismatch": "document{s} with other vectors than in the tables, such as {examples}",
    "duplicate_captions": "document{s} with a caption that others have too, such as {examples}",
    "same_first_hits": "shopper{s} with the same first hit, {examples}",
    "hubs": "document{s} in the top tens of too many shoppers, such as {examples}",
    "never_shown": "document{s} in no top ten, such as {examples}",
}

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, the number of affected ids, and a few of them. Errors have to be fixed; people judge warnings.

    Kinds of errors: wrong_model; missing, extra and stale items of the index; stale_behaviour (popularity or
    co-purchases differ); vector_mismatch; missing_profiles, extra_profiles, stale_profiles, and the same for segments.
    Kinds of warnings: duplicate_captions (items that share a caption); same_first_hits (shoppers who get the most
    frequent first hit, if they are too many; the example is that item), hubs (items in the top tens of too many
    shoppers), never_shown (items in no top ten, if they are too many); idle_rules (business rules that touch nothing);
    lost_experiments (live comparisons in which nobody takes part, since a release of theirs is gone); stale_fit (the
    fitted system, or its last fit, is not used, with the reason); idle_ranking (the release lacks what the ranking
    weighs); old_project (another version of the package wrote the project's files); refused, refused_profiles and
    refused_segments (missing ones that the publication of the same tables refused, or whose id is too long for a
    server: the table `dead_letters` has the reasons; after the tables changed, others are missing); other_photos (the
    release has vectors of photos and the tables that are to be published have none, or the reverse, or another encoder
    made them); older_release (where there are errors: a newer release can be opened, so that somebody may have rolled
    back, and differences are expected).
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]

    @property
    def text(self) -> str:
        """What was found, in words; of some kinds the examples are sentences."""
        if phrase := _PHRASES.get(self.kind):
            plural = "" if self.count == 1 else "s"
            return f"{self.count:,} {phrase.format(s=plural, examples=', '.join(self.examples))}"
        more = self.count - len(self.examples)
        return "; ".join([*self.examples, *([f"and {more:,} more"] if more else [])])


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings on a release, none if it is fine, and what its ranking shows to a sample of shoppers."""

    findings: list[Finding]
    exposure: Exposure


def examine(
    releases: Releases,
    search_layer: SearchLayer,
    users: int,
    ranking: Ranking | None = None,
    rules: Sequence[Rule] = (),
    also: Mapping[str, Sequence[str | None]] = MappingProxyType({}),
    forgotten: Container[str] = frozenset(),
    records: Path | None = None,
) -> Diagnosis:
    """Compare the live release with the tables, and look at the top tens that shoppers get.

    Args:
        releases: of the index.
        search_layer: of the warehouse.
        users: number of shoppers whose top tens are examined.
        ranking, rules: that answer, see `Searcher`.
        also: the lines of more kinds of warnings that the caller has found; a missing line is no warning.
        forgotten: contains the ids of shoppers whom no release may have.
        records: of publications, which say what they refused; None for none.

    Raises:
        UsageError: nothing is published, or the release is of another schema version.
        RunError: the index, the live release or the records cannot be read.
    """
    live = releases.meta(None)
    name = live.name
    with duckdb_errors(), duckdb.connect() as connection:
        made = search_layer.new_release(live.checks)
        staged = stage_release(connection, search_layer.tables, made, lambda _: None, forgotten)
        connection.execute(_REFUSED)
        if records:
            connection.register("letters", read_refused(records, name))
            connection.execute("INSERT INTO refused_ids FROM letters")
            if not _is_unchanged(live, staged):  # a publication may take now what it refused then
                connection.execute(_OF_LONG_IDS)
        connection.execute(_LIVE)
        for batch in releases.documents(name, (*COLUMNS, *BEHAVIOUR)):
            connection.register("batch", batch)
            connection.execute("INSERT INTO live BY NAME SELECT * FROM batch")
        model_changes = list(_model_changes(live, staged))
        same_model = not model_changes
        findings = [_finding("wrong_model", "error", model_changes)]
        for kind, sql in _QUERIES.items():
            severity: Severity = "warning" if kind in _WARNINGS else "error"
            findings.append(_finding(kind, severity, _ids(connection, sql)))
        if same_model:
            findings.append(_finding("vector_mismatch", "error", _ids(connection, _MOVED_VECTORS)))
        findings += _by_hash(connection, "profiles", releases.hashes(name, "profiles"), same_model)
        findings += _by_hash(connection, "segments", releases.hashes(name, "segments"), same_model=True)
        popularity = dict(connection.execute(_POPULARITY).fetchall())
    exposure = measure_release(releases, name, releases.users(name, users), ranking, rules, popularity)
    findings += _judge(exposure)
    findings.append(_finding("idle_rules", "warning", find_idle_rules(rules, search_layer.tables)))
    also = {**also, "idle_ranking": [ranking_of(live, ranking).describe_missing(live)]}
    findings += [_finding(kind, "warning", [line for line in lines if line]) for kind, lines in also.items()]
    images = (live.image_encoder, staged.image_encoder)
    changed = [f"image encoder {images[0]} in the index, {images[1]} in the tables"] if images[0] != images[1] else []
    findings.append(_finding("other_photos", "warning", changed))
    if any(each.severity == "error" and each.count for each in findings) and (newer := releases.newer(name)):
        line = f"the live release is older than {newer[-1]} (rolled back?): that it differs from the tables is expected"
        findings.append(_finding("older_release", "warning", [line]))
    return Diagnosis([finding for finding in findings if finding.count], exposure)


def find_stale_fit(
    connection: duckdb.DuckDBPyConnection, environment: str, folder: Path, is_earlier: bool
) -> str | None:
    """Return why the last fit of a folder makes no vectors in an environment, None where it does or there is none.

    Args:
        connection: to the warehouse.
        environment: of the tables.
        folder: of the fitted system.
        is_earlier: see `FittedSystem.choose`.

    Raises:
        UsageError: the fitted system cannot be read.
    """
    system = read_fitted(folder)
    if system is None:
        return None
    moment = in_environment("SELECT ANY_VALUE(as_of) FROM histories.as_of", environment)
    (as_of,) = connection.execute(moment).fetchone() or (None,)
    return system.choose(Inputs.read(connection, environment), as_of, is_earlier).problem


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
            severity: Severity = "warning" if fault in _WARNINGS else "error"
            yield _finding(f"{fault}_{kind}", severity, _ids(connection, sql.format(kind=_REFUSED_KINDS[kind])))


def _model_changes(live: ReleaseMeta, staged: ReleaseMeta) -> Iterator[str]:
    for name in ("encoder", "dimension", "fitted", "analyzer"):
        indexed, tabled = getattr(live, name), getattr(staged, name)
        if indexed != tabled:
            yield f"{name} {indexed} in the index, {tabled} in the tables"


def _is_unchanged(live: ReleaseMeta, staged: ReleaseMeta) -> bool:
    """Return whether the release was made of these tables; False for tables that come from no warehouse."""
    made_of, tabled = ((meta.table_version, meta.as_of, meta.package) for meta in (live, staged))
    return live.table_version is not None and made_of == tabled


def _judge(exposure: Exposure) -> Iterator[Finding]:
    """Yield the warnings about what the ranking shows."""
    if exposure.is_same_for_many:
        yield Finding("same_first_hits", "warning", exposure.same_first, (str(exposure.first_item),))
    if exposure.is_judged:
        yield _finding("hubs", "warning", exposure.ubiquitous)
    if exposure.is_narrow:
        yield Finding("never_shown", "warning", exposure.documents - exposure.shown, exposure.hidden)


def _ids(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return sorted(item for (item,) in connection.execute(sql).fetchall())


def _finding(kind: str, severity: Severity, ids: Sequence[str]) -> Finding:
    return Finding(kind, severity, len(ids), tuple(ids[:EXAMPLES]))
