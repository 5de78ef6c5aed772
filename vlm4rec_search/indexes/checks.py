"""What every release is checked for, whatever its backend: its rows, and a search of each kind."""

import duckdb

from vlm4rec_search.common.errors import RunError, Vlm4recError
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.searcher import Searcher

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


def verify_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Compare the release's rows with what was handed over, while the build is still open.

    Raises:
        RunError: rows are missing or too many, with how many and what they are.
    """
    counts = connection.execute(_IDS).fetchone() or ()
    for number, fault in zip(counts, _FAULTS, strict=True):
        if number:
            raise RunError(f"the release was not published: {abs(number)} {fault}; the last one still answers")


def smoke(searcher: Searcher, user: str | None, text: str | None) -> None:
    """Search once for a user that nobody knows, a known user, and a text that some document has.

    Raises:
        RunError: a search fails, finds nothing, or has a negative score.
    """
    queries = [Query(user="\N{NULL}nobody", k=1)]
    queries += [Query(user=user, include_seen=True, k=1, explain=True)] if user else []
    queries += [Query(text=text, mode="lexical", k=1)] if text else []
    for query in queries:
        try:
            answer = searcher.search(query)
        except (Vlm4recError, ValueError, ArithmeticError, LookupError, duckdb.Error) as error:
            raise RunError(f"the release was not published: a search failed with {error!r}") from error
        if not answer.hits:
            raise RunError("the release was not published: a search found nothing")
        if query.mode == "lexical" and min(hit.score for hit in answer.hits) < 0:
            raise RunError("the release was not published: a search gives negative scores")
