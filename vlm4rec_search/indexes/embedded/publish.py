"""Builds a release file from the tables of the search layer, verifies it, and makes it the current release."""

import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from vlm4rec_search.common.analyzer import Analyzer, load_analyzer
from vlm4rec_search.common.bm25 import BOOSTS, bm25, count_terms
from vlm4rec_search.common.erase import erase_from_duckdb
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import Advance, bar
from vlm4rec_search.common.vectors import UNIT_TOLERANCE, cosines, unit
from vlm4rec_search.indexes.checks import check_loss, run_smoke_searches
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.pointer import current_release, publishing
from vlm4rec_search.indexes.embedded.shortlist import Signs, Trial, try_lengths
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.indexes.release import DamagedIndexError, ReleaseSummary
from vlm4rec_search.indexes.releases import ReadForgotten
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.indexes.staging import STEPS, count_changes, count_rows, duckdb_errors, stage_release
from vlm4rec_search.indexes.tables import CREATE_POSTINGS
from vlm4rec_search.search.query import Kind
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.searcher import Searcher

logger = logging.getLogger(__name__)

EXACT_UP_TO = 200_000
COUNT_USERS = "UPDATE release SET users = (SELECT COUNT(*) FROM users)"
"""Mends the number of users in a release file after some were removed."""
_MEMORY = "2GB"  # of DuckDB while it builds; what does not fit goes to a folder beside the file
_BATCH = 10_000  # texts in memory at once
_TRIED = 24  # queries of each sort that try shortlists

# The file and the judged tables must give the same best cosines for some random vectors; each is a scan of both.
_SAMPLE, _FEWEST, _SCANNED = 16, 4, 4_000_000
_TOP = 10
_TOLERANCE = 1e-5
_SCAN = """
SELECT list(score) FROM (
    SELECT list_inner_product(vector, $query::FLOAT[]) AS score FROM judged_documents WHERE reason IS NULL
    ORDER BY score DESC LIMIT $top
)
"""
_COUNTS = """
SELECT
    (SELECT count(*) FROM rejected WHERE kind = 'document'), (SELECT count(*) FROM rejected WHERE kind = 'user'),
    (SELECT count(*) FROM users_before ANTI JOIN users USING (user_id))
"""


def build_release(
    folder: Path,
    given: SearchTables[Frame],
    meta: ReleaseMeta,
    exact_up_to: int = EXACT_UP_TO,
    forgotten: ReadForgotten = frozenset,
    force: bool = False,
    kept: Collection[str] = (),
) -> ReleaseSummary:
    """Build, verify and publish a release. The release before it answers until the new one is verified.

    Documents and users that cannot be searched go to the release's table `rejected`, see `stage_release`.

    Args:
        folder: of the embedded index.
        given: the tables of the search layer.
        meta: from `new_release`; its encoder and dimension are those that the vectors must have.
        exact_up_to: documents up to which searches compare all vectors; a larger release gets shortlists.
        forgotten: see `Releases.publish`.
        force: publish although many items or profiles of the live release would be deleted, or another release was
            activated meanwhile.
        kept: releases that stay, however old they are.

    Raises:
        UsageError: a column is missing.
        RunError: no document can be published, too much would be deleted, verification fails, another build is running,
            the file cannot be written, or another release was activated meanwhile.
    """
    started = time.perf_counter()
    steps = STEPS + len(BOOSTS) + 1
    with (
        publishing(folder, meta.name, force, kept) as path,
        duckdb_errors(),
        bar("building the release", steps) as advance,
    ):
        connection = duckdb.connect(str(path), config={"memory_limit": _MEMORY})
        try:
            left_out = forgotten()
            meta = stage_release(connection, given, meta, advance, left_out)
            _write_postings(connection, load_analyzer(meta.analyzer), advance)
            scans = scan_samples(connection, meta.dimension)
            summary = _summarize_changes(connection, folder, meta, force)
            if meta.documents > exact_up_to:
                connection.execute("INSERT INTO shortlists (kind) SELECT 'semantic'")
                connection.execute("INSERT INTO shortlists (kind) SELECT DISTINCT 'fitted' FROM fitted")
            connection.execute("CHECKPOINT")
        finally:
            connection.close()
        if meta.documents > exact_up_to:
            _try_shortlists(path)
        verify_file(path, scans)
        if (now := forgotten()) != left_out:
            erase_from_duckdb(path, now, False, COUNT_USERS)
        advance(1)
    return replace(summary, seconds=round(time.perf_counter() - started, 2))


def scan_samples(connection: duckdb.DuckDBPyConnection, dimension: int) -> list[tuple[list[float], list[float]]]:
    """Return random unit vectors, each with the ten best cosines that DuckDB computes from the judged documents."""
    count = min(_SAMPLE, max(_FEWEST, _SCANNED // count_rows(connection, "documents")))
    draws = np.random.default_rng(0).standard_normal((count, dimension))
    queries = (draws / np.linalg.norm(draws, axis=1, keepdims=True)).astype(np.float32).tolist()
    scans = [connection.execute(_SCAN, {"query": query, "top": _TOP}).fetchone() for query in queries]
    return [(query, scan[0]) for query, scan in zip(queries, scans, strict=True) if scan]


def verify_file(path: Path, scans: list[tuple[list[float], list[float]]]) -> None:
    """Open a finished file as a search does, compare its vectors with those of the tables, and search.

    Args:
        path: of the file.
        scans: from `scan_samples`.

    Raises:
        RunError: the file cannot be read, a vector is not finite or not of length 1, the best cosines differ, or a
            search fails.
    """
    store = Store(path)
    try:
        squared = np.vecdot(store.vectors, store.vectors)
        if not np.isfinite(squared).all() or np.abs(squared - 1.0).max() > UNIT_TOLERANCE:
            raise RunError("the release was not published: it holds vectors that are not of length 1")
        for query, expected in scans:
            best = np.sort(cosines(store.vectors, np.array(query, dtype=np.float32)))[::-1][: len(expected)]
            if np.abs(best - expected).max() > _TOLERANCE:
                raise RunError("the release was not published: its vectors rank otherwise than the tables' vectors")
        # A text search analyzes its text: only a term that the analyzer leaves as it is must be found.
        analyze = load_analyzer(store.meta.analyzer).analyze
        text = next((term for term in store.terms if analyze(term) == [term]), None)
        run_smoke_searches(Searcher(EmbeddedBackend(store)), store.any_user(), text)
    finally:
        store.close()


def _try_shortlists(path: Path) -> None:
    """Record the length of the shortlists that find nearly all nearest documents; the others are not used."""
    store = Store(path)
    try:
        trials = {kind: _try_shortlist(store, kind, signs) for kind, signs in store.signs.items()}
    finally:
        store.close()
    with duckdb.connect(str(path)) as connection:
        for kind, trial in trials.items():
            length = trial.length if trial.passed else None
            logger.info("shortlists of %s vectors: %s, %s", kind, trial, "used" if trial.passed else "not used")
            values = [length, trial.recall_10, trial.recall_200, trial.queries, kind]
            connection.execute(
                "UPDATE shortlists SET length = ?, recall_10 = ?, recall_200 = ?, queries = ? WHERE kind = ?", values
            )


def _try_shortlist(store: Store, kind: Kind, signs: Signs) -> Trial:
    """Try single documents, means of five of them, and shoppers' vectors as queries."""
    vectors, draw = store.vectors_of(kind), np.random.default_rng(0)
    is_there = store.is_fitted if kind == "fitted" else None
    known = np.arange(len(vectors)) if is_there is None else np.flatnonzero(is_there)
    singles, fives = vectors[draw.choice(known, _TRIED)], vectors[draw.choice(known, (_TRIED, 5))].mean(axis=1)
    sorts = [unit(queries) for queries in (singles, fives, *store.sample_users(kind, _TRIED))]
    return try_lengths(vectors, signs, sorts, is_there)


def _write_postings(connection: duckdb.DuckDBPyConnection, analyzer: Analyzer, advance: Advance) -> None:
    connection.execute(CREATE_POSTINGS)
    for field in BOOSTS:
        terms, _, counts = count_terms(_texts(connection, field), analyzer)
        scores = bm25(counts)
        offsets = pa.array(scores.indptr.astype(np.int32))
        columns = {
            "field": pa.array([field] * len(terms), pa.string()),
            "term": pa.array(terms, pa.string()),
            "df": pa.array(np.diff(scores.indptr).astype(np.int32)),
            "documents": pa.ListArray.from_arrays(offsets, pa.array(scores.indices.astype(np.int32))),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores.data)),
        }
        connection.register("incoming_postings", pa.table(columns))
        connection.execute("INSERT INTO postings SELECT * FROM incoming_postings")
        connection.unregister("incoming_postings")
        advance(1)


def _texts(connection: duckdb.DuckDBPyConnection, field: str) -> Iterator[str | None]:
    cursor = connection.cursor().execute(f'SELECT "{field}" FROM documents ORDER BY document')  # noqa: S608  of BOOSTS
    for batch in cursor.to_arrow_reader(_BATCH):
        yield from batch.column(0).to_pylist()


def _summarize_changes(
    connection: duckdb.DuckDBPyConnection, folder: Path, meta: ReleaseMeta, force: bool
) -> ReleaseSummary:
    """Count the differences from the current release.

    Raises:
        RunError: too much of it would be deleted, unless `force` is given.
    """
    previous, users_before = _read_current(folder)
    connection.register("previous", previous)
    connection.register("users_before", users_before)
    added, changed, deleted = count_changes(connection, "previous", "documents")
    rejected, rejected_users, gone = connection.execute(_COUNTS).fetchall()[0]
    if not force:
        check_loss(deleted, len(previous), "items")
        check_loss(gone, len(users_before), "profiles")
    return ReleaseSummary(
        release=meta.name,
        documents=meta.documents,
        added=added,
        changed=changed,
        deleted=deleted,
        users=meta.users,
        users_before=len(users_before),
        rejected=rejected,
        rejected_users=rejected_users,
    )


def _read_current(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Return item_id and content_hash, and user_id, of the current release; empty without a release."""
    try:
        path = current_release(folder)
        if path is not None:
            with duckdb.connect(str(path), read_only=True) as connection:
                documents = connection.execute("SELECT item_id, content_hash FROM documents").to_arrow_table()
                return documents, connection.execute("SELECT user_id FROM users").to_arrow_table()
    except (DamagedIndexError, duckdb.Error):
        pass  # the new release repairs a damaged index: all of its documents count as added
    documents = pa.table({"item_id": pa.array([], pa.string()), "content_hash": pa.array([], pa.string())})
    return documents, pa.table({"user_id": pa.array([], pa.string())})
