"""Checks of a new release that do not depend on its backend: every row is accounted for, and searches work."""

import duckdb

from vlm4rec_search.common.errors import RunError, Vlm4recError
from vlm4rec_search.common.vectors import UNIT_TOLERANCE
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.searcher import Searcher

LARGEST_LOSS = 0.2  # share of the live items, and of the live profiles, that a publication may delete without force

# How many rows show each fault; all are 0 in a sound release.
_FAULTS = {
    "documents are missing": """
        SELECT count(*) FROM (FROM wanted EXCEPT SELECT item_id FROM documents)
    """,
    "documents are too many": """
        SELECT count(*) FROM (SELECT item_id FROM documents EXCEPT FROM wanted)
    """,
    "item ids are repeated": """
        SELECT (SELECT count(*) FROM documents) - (SELECT count(DISTINCT item_id) FROM documents)
    """,
    "documents have no vector": """
        SELECT (SELECT count(*) FROM documents) - (SELECT count(*) FROM vectors)
    """,
    "learned vectors are not of length 1 and of the release's dimension": f"""
        SELECT count(*) FROM fitted, release WHERE len(fitted.fitted) IS DISTINCT FROM release.fitted_dimension
            OR coalesce(NOT isfinite(list_sum(fitted.fitted)), TRUE)
            OR abs(list_inner_product(fitted.fitted, fitted.fitted) - 1) > {UNIT_TOLERANCE}
    """,  # noqa: S608
    "vectors of photos are not of length 1 and of the release's encoder and dimension": f"""
        SELECT count(*) FROM photos, release
        WHERE photos.encoder IS DISTINCT FROM release.image_encoder
            OR len(photo) IS DISTINCT FROM release.image_dimension
            OR coalesce(NOT isfinite(list_sum(photo)), TRUE)
            OR abs(list_inner_product(photo, photo) - 1) > {UNIT_TOLERANCE}
    """,  # noqa: S608
    "documents are neither published nor rejected": """
        SELECT (SELECT count(*) FROM judged_documents) - (SELECT count(*) FROM documents)
            - (SELECT count(*) FROM rejected WHERE kind = 'document')
    """,
    "users are neither published nor rejected": """
        SELECT (SELECT count(*) FROM judged_users) - (SELECT count(*) FROM users)
            - (SELECT count(*) FROM rejected WHERE kind = 'user')
    """,
}


def check_loss(gone: int, live: int, kind: str) -> None:
    """Refuse to delete more than the share `LARGEST_LOSS` of the live documents of a kind.

    Args:
        gone: how many of them the new release does not have.
        live: their number.
        kind: items or profiles. Lists of what is popular in a segment may go: a quiet week ends many of them.

    Raises:
        RunError: the publication would delete more.
    """
    if gone > LARGEST_LOSS * live:
        raise RunError(
            f"not published: {gone:,} of {live:,} {kind} would be deleted, more than {LARGEST_LOSS:.0%}; look at the"
            " tables, or publish with --force"
        )


def verify_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Compare the rows of a release with the judged rows of the search layer, while the build is still open.

    Raises:
        RunError: rows are missing or too many; the message gives their number.
    """
    for fault, query in _FAULTS.items():
        with_wanted = f"WITH wanted AS (SELECT item_id FROM judged_documents WHERE reason IS NULL) {query}"  # noqa: S608
        (number,) = connection.execute(with_wanted).fetchone() or (0,)
        if number:
            raise RunError(f"the release was not published: {abs(number)} {fault}; the release before it still answers")


def run_smoke_searches(searcher: Searcher, user: str | None, text: str | None) -> None:
    """Search for a shopper whom the release does not know, for a known shopper, and for a text of some document.

    Args:
        searcher: of the new release.
        user: a shopper of the release, None to leave out this search.
        text: words that a document contains, None to leave out this search.

    Raises:
        RunError: a search fails, finds nothing, or has a negative score.
    """
    queries = [Query(user="\N{NULL}nobody", k=1)]
    queries += [Query(user=user, include_seen=True, k=1, explain=True)] if user else []
    queries += [Query(text=text, mode="lexical", k=1)] if text else []
    for query in queries:
        try:
            answer = searcher.search_whole(query)
        except (Vlm4recError, ValueError, ArithmeticError, LookupError, duckdb.Error) as error:
            raise RunError(f"the release was not published: a search failed with {error!r}") from error
        if not answer.hits:
            raise RunError("the release was not published: a search found nothing")
        if query.mode == "lexical" and min(hit.score for hit in answer.hits) < 0:
            raise RunError("the release was not published: a search gives negative scores")
