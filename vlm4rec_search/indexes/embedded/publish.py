"""Builds a release file from what the warehouse hands over, verifies it and lets the pointer name it."""

import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from vlm4rec_search.common.analyzer import analyze
from vlm4rec_search.common.bm25 import BOOSTS, bm25, count_terms
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.progress import Advance, bar
from vlm4rec_search.common.vectors import cosines
from vlm4rec_search.indexes import tables
from vlm4rec_search.indexes.checks import smoke
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.pointer import current_release, publishing
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.indexes.release import ReleaseMeta, ReleaseSummary
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.indexes.staging import STEPS, count, one_line, stage
from vlm4rec_search.search.searcher import Searcher

# What a release has to show before the pointer may name it.

_SAMPLE = 16
_TOP = 10
_TOLERANCE = 1e-5
_SCAN = """
SELECT list(score) FROM (
    SELECT list_inner_product(vector, $query::FLOAT[]) AS score FROM judged_documents WHERE reason IS NULL
    ORDER BY score DESC LIMIT $top
)
"""


def sample_scans(connection: duckdb.DuckDBPyConnection, dimension: int) -> list[tuple[list[float], list[float]]]:
    """Return random unit vectors, each with its best cosines as DuckDB computes them from what was handed over."""
    draws = np.random.default_rng(0).standard_normal((_SAMPLE, dimension))
    queries = (draws / np.linalg.norm(draws, axis=1, keepdims=True)).astype(np.float32).tolist()
    scans = [connection.execute(_SCAN, {"query": query, "top": _TOP}).fetchone() for query in queries]
    return [(query, scan[0]) for query, scan in zip(queries, scans, strict=True) if scan]


def verify_file(path: Path, scans: list[tuple[list[float], list[float]]]) -> None:
    """Read a finished file as a search would, and ask it something.

    Raises:
        RunError: it cannot be read, vectors are not finite unit vectors, its scan differs, or a search fails.
    """
    store = Store(path)
    try:
        lengths = np.linalg.norm(store.vectors, axis=1)
        if not np.isfinite(lengths).all() or np.abs(lengths - 1.0).max() > 2e-3:
            raise RunError("the release was not published: it holds vectors that are not of length 1")
        for query, expected in scans:
            best = np.sort(cosines(store.vectors, np.array(query, dtype=np.float32)))[::-1][: len(expected)]
            if np.abs(best - expected).max() > _TOLERANCE:
                raise RunError("the release was not published: its vectors rank otherwise than the tables' vectors")
        _smoke(store)
    finally:
        store.close()


def _smoke(store: Store) -> None:
    # A stem need not be its own stem: only a term that is can be searched for as a text, and has to be found.
    text = next((term for term in store.terms if analyze(term) == [term]), None)
    smoke(Searcher(EmbeddedBackend(store)), store.any_user(), text)


def build_release(folder: Path, given: SearchTables[Frame], meta: ReleaseMeta) -> ReleaseSummary:
    """Build, verify and publish a release; until it is verified, and if anything fails, the last one answers.

    What cannot be searched is kept in the release's table `rejected`, see `staging.stage`.

    Args:
        folder: of the embedded index.
        given: the search layer.
        meta: from `new_release`; its encoder and dimension are what documents have to have.

    Raises:
        UsageError: a column is missing.
        RunError: nothing is left to publish, verification fails, another build is running, or the disk does not take
            the file.
    """
    started = time.perf_counter()
    steps = STEPS + len(BOOSTS) + 1
    with publishing(folder, meta.name) as path, one_line(), bar("building the release", steps) as advance:
        connection = duckdb.connect(str(path))
        try:
            meta = stage(connection, given, meta, advance)
            _fill_postings(connection, advance)
            scans = sample_scans(connection, meta.dimension)
            summary = _summary(connection, folder, meta)
            connection.execute("CHECKPOINT")
        finally:
            connection.close()
        verify_file(path, scans)
        advance(1)
    return replace(summary, seconds=round(time.perf_counter() - started, 2))


def _fill_postings(connection: duckdb.DuckDBPyConnection, advance: Advance) -> None:
    connection.execute(tables.POSTINGS)
    for field in BOOSTS:
        texts = connection.table("documents").order("document").project(f'"{field}"').fetchall()
        terms, _, counts = count_terms(text for (text,) in texts)
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


def _summary(connection: duckdb.DuckDBPyConnection, folder: Path, meta: ReleaseMeta) -> ReleaseSummary:
    """Compare what was built with the release that answers so far."""
    previous, users_before = _previous(folder)
    connection.register("previous", previous)
    added, changed, deleted, documents, users = connection.execute("""
        SELECT count(*) FILTER (old.item_id IS NULL),
            count(*) FILTER (old.content_hash IS DISTINCT FROM new.content_hash AND old.item_id = new.item_id),
            count(*) FILTER (new.item_id IS NULL),
            (SELECT count(*) FROM rejected WHERE kind = 'document'), (SELECT count(*) FROM rejected WHERE kind = 'user')
        FROM documents AS new FULL JOIN previous AS old ON old.item_id = new.item_id
    """).fetchall()[0]
    changes = {"added": added, "changed": changed, "deleted": deleted, "rejected": documents, "rejected_users": users}
    return ReleaseSummary(meta.name, meta.documents, users=meta.users, users_before=users_before, **changes)


def _previous(folder: Path) -> tuple[pa.Table, int]:
    """Return item_id and content_hash of the current release, and its number of users; nothing where there is none."""
    try:
        path = current_release(folder)
        if path is not None:
            with duckdb.connect(str(path), read_only=True) as connection:
                documents = connection.execute("SELECT item_id, content_hash FROM documents").to_arrow_table()
                return documents, count(connection, "users")
    except (UsageError, duckdb.Error):
        pass  # a damaged index is repaired by publishing again: every document counts as added
    return pa.table({"item_id": pa.array([], pa.string()), "content_hash": pa.array([], pa.string())}), 0
