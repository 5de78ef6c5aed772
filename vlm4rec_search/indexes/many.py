"""Answers for many shoppers: in blocks from a release in a folder, in threads from a server."""

from collections.abc import Iterator, Sequence

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from vlm4rec_search.common.concurrency import run_concurrently
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.blocks import explain_users, rank_users
from vlm4rec_search.search.backend import UnavailableError
from vlm4rec_search.search.query import Answer, Query
from vlm4rec_search.search.searcher import Searcher, to_hits

_WORKERS = 8  # requests to a server at once: more waits there
_ROUND = 256  # queries whose answers wait for each other, so that answers come in the order of the queries
_AGAIN = Retrying(  # one search of many that a server does not answer would cost all the others
    retry=retry_if_exception_type(UnavailableError),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(multiplier=1, max=20),
    reraise=True,
)


def answer_many(index: Searcher, queries: Sequence[Query]) -> Iterator[Answer]:
    """Yield the answer to each query, in order. Hits, scores, reasons, tier and ranking are those of `search_whole`.

    Answers from blocks have no note and took 0 ms. A search that a server does not answer in time is asked five times.

    Args:
        index: an open release.
        queries: each for a shopper, without a text and without a session, and all with the same `explain`.

    Raises:
        UsageError: as for `Searcher.search`.
        UnavailableError: a server does not answer a search.
        RunError: the index cannot be read.
    """
    if isinstance(index.backend, EmbeddedBackend):
        yield from _answer_in_blocks(index, index.backend, queries)
        return
    for low in range(0, len(queries), _ROUND):
        asked = range(low, min(low + _ROUND, len(queries)))
        answers = dict(run_concurrently(lambda number: _AGAIN(index.search_whole, queries[number]), asked, _WORKERS))
        yield from (answers[number] for number in asked)


def _answer_in_blocks(index: Searcher, backend: EmbeddedBackend, queries: Sequence[Query]) -> Iterator[Answer]:
    ranking, rules, release = index.ranking, index.rules, backend.release.name
    if queries and queries[0].explain:
        found = explain_users(backend, queries, ranking, rules)
    else:
        found = ((plan, ranked, ()) for plan, ranked in rank_users(backend, queries, ranking, rules))
    for plan, ranked, explained in found:
        hits = to_hits(ranked, explained)
        yield Answer(
            plan.query.user, plan.query.mode, plan.tier, release, 0.0, hits, ranking.version, counts=ranked.counts
        )
