"""What a release has to show before the pointer may name it."""

from pathlib import Path

import duckdb
import numpy as np

from vlm4rec_search.common.analyzer import analyze
from vlm4rec_search.common.errors import RunError, Vlm4recError
from vlm4rec_search.common.vectors import cosines
from vlm4rec_search.indexes.embedded.backend import EmbeddedIndex
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.backend import Index
from vlm4rec_search.search.query import Query

_SAMPLE = 16
_TOP = 10
_TOLERANCE = 1e-5
_IDS = """
WITH wanted AS (SELECT item_id FROM judged_documents WHERE reason IS NULL)
SELECT (SELECT count(*) FROM (FROM wanted EXCEPT SELECT item_id FROM documents)),
    (SELECT count(*) FROM (SELECT item_id FROM documents EXCEPT FROM wanted)),
    (SELECT count(*) FROM documents) - (SELECT count(DISTINCT item_id) FROM documents),
    (SELECT count(*) FROM documents) - (SELECT count(*) FROM vectors),
    (SELECT count(*) FROM judged_documents) - (SELECT count(*) FROM documents)
        - (SELECT count(*) FROM rejected WHERE kind = 'document'),
    (SELECT count(*) FROM judged_users) - (SELECT count(*) FROM users)
        - (SELECT count(*) FROM rejected WHERE kind = 'user')
"""
_FAULTS = (
    "documents are missing", "documents are too many", "item ids are repeated", "documents have no vector",
    "documents are neither published nor rejected", "users are neither published nor rejected",
)  # fmt: skip
_SCAN = """
SELECT list(score) FROM (
    SELECT list_inner_product(vector, $query::FLOAT[]) AS score FROM judged_documents WHERE reason IS NULL
    ORDER BY score DESC LIMIT $top
)
"""


def verify_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Compare the release's rows with what was handed over, while the build is still open.

    Raises:
        RunError: rows are missing or too many, with how many and what they are.
    """
    counts = connection.execute(_IDS).fetchone() or ()
    for count, fault in zip(counts, _FAULTS, strict=True):
        if count:
            raise RunError(f"the release was not published: {abs(count)} {fault}; the last one still answers")


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
    smoke(EmbeddedIndex(store), store.any_user(), next((term for term in store.terms if analyze(term) == [term]), None))


def smoke(index: Index, user: str | None, text: str | None) -> None:
    """Search once for a user that nobody knows, a known user, and a text that some document has.

    Raises:
        RunError: a search fails, finds nothing, or has a negative score.
    """
    queries = [Query(user="\N{NULL}nobody", k=1)]
    queries += [Query(user=user, include_seen=True, k=1, explain=True)] if user else []
    queries += [Query(text=text, mode="lexical", k=1)] if text else []
    for query in queries:
        try:
            answer = index.search(query)
        except (Vlm4recError, ValueError, ArithmeticError, LookupError, duckdb.Error) as error:
            raise RunError(f"the release was not published: a search failed with {error!r}") from error
        if not answer.hits:
            raise RunError("the release was not published: a search found nothing")
        if query.mode == "lexical" and min(hit.score for hit in answer.hits) < 0:
            raise RunError("the release was not published: a search gives negative scores")
