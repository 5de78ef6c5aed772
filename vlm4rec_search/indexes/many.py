"""Answers for many shoppers: in blocks and processes from a release in a folder, in threads from a server."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from vlm4rec_search.common.concurrency import run_concurrently
from vlm4rec_search.common.processes import run_in_processes
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.blocks import rank_users
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.backend import UnavailableError
from vlm4rec_search.search.hits import to_hits
from vlm4rec_search.search.query import Answer, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher, check_fields

WORKERS = 8  # requests to a server at once: more waits there
_ROUND = 256  # queries whose answers wait for each other, so that answers come in the order of the queries
AGAIN = Retrying(  # one search of many that a server does not answer would cost all the others
    retry=retry_if_exception_type(UnavailableError),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(multiplier=1, max=20),
    reraise=True,
)
ONCE = Retrying(stop=stop_after_attempt(1), reraise=True)  # where somebody waits for the answer
T = TypeVar("T")
_opened: list[Searcher] = []  # of a process of `answer_groups`


def answer_groups(
    index: Searcher, groups: Sequence[Sequence[Query]], convert: Callable[[Iterable[Answer]], T], processes: int
) -> Iterator[T]:
    """Yield what `convert` makes of the answers to each group of queries, in order, see `answer_many`.

    Args:
        index: an open release.
        groups: of queries.
        convert: a function of a module; it and what it returns are sent to and from other processes by pickle.
        processes: how many answer from a release in a folder at once; they share its arrays. Where the release is on a
            server, or there is one group, this process answers alone.

    Raises:
        UsageError, UnavailableError: as for `answer_many`.
        RunError: the index cannot be read, or one of the processes was ended.
    """
    backend = index.backend
    if min(processes, len(groups)) < 2 or not isinstance(backend, EmbeddedBackend):
        yield from (convert(answer_many(index, group)) for group in groups)
        return
    opening = partial(_open, backend.store.path, index.ranking, tuple(index.rules))
    answering = partial(_answer_group, convert)
    yield from run_in_processes(answering, groups, processes, "run again with --processes 1", opening)


def _open(path: Path, ranking: Ranking, rules: Sequence[Rule]) -> None:
    """Open a release in a process that answers groups of queries."""
    _opened.append(Searcher(EmbeddedBackend(Store(path, shared=True)), None, ranking, rules))


def _answer_group(convert: Callable[[Iterable[Answer]], T], queries: Sequence[Query]) -> T:
    return convert(answer_many(_opened[0], queries))


def answer_many(index: Searcher, queries: Sequence[Query], again: Retrying = AGAIN) -> Iterator[Answer]:
    """Yield the answer to each query, in order. Hits, scores, reasons, tier and ranking are those of `search_whole`.

    Answers from blocks have no note and took 0 ms; they compare all vectors, also where a search has a shortlist
    (`VLM4REC_INDEX_EXACT_UP_TO`) and may miss some of the nearest.

    Args:
        index: an open release.
        queries: each for a shopper, without a text and without a session.
        again: how often a search is asked that a server does not answer in time; five times, or `ONCE`.

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
        answers = dict(run_concurrently(lambda number: again(index.search_whole, queries[number]), asked, WORKERS))
        yield from (answers[number] for number in asked)


def _answer_in_blocks(index: Searcher, backend: EmbeddedBackend, queries: Sequence[Query]) -> Iterator[Answer]:
    for query in queries:
        check_fields(query, backend)
    ranking, rules, release = index.ranking, index.rules, backend.release.name
    for plan, ranked, explained in rank_users(backend, queries, ranking, rules):
        yield Answer(
            user=plan.query.user,
            mode=plan.query.mode,
            tier=plan.tier,
            release=release,
            took_ms=0.0,
            hits=to_hits(ranked, explained),
            ranking=ranking.version,
            counts=ranked.counts,
        )
