"""How good answers are by judgments of people, such as those of the page of the service, for one ranking or several.

nDCG@10 has the judgment as gain and counts an item that nobody judged as not relevant, which favours the ranking whose
answers people have looked at. Over the judged items only (condensed lists, Sakai 2007) it does not. Judged@10 says how
many of the first ten items have a judgment.

Judgments that say nothing of a ranking are left out and counted: of items that no answer may have, because the shopper
has them or the release lacks them, and of queries that nobody can ask.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ir_measures
import numpy as np
from ir_measures import Judged, P, nDCG

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.text_forms import normal_form, shorten
from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.evaluation.metrics import DEPTH, to_run
from vlm4rec_search.evaluation.significance import Difference, compare, mean_intervals, resampled_means
from vlm4rec_search.search.planning import excluded_items
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.searcher import Searcher

_MEASURES = {
    "nDCG@10": nDCG @ 10,
    "nDCG@10, judged only": nDCG(judged_only=True) @ 10,
    "P@10": P @ 10,
    "Judged@10": Judged @ 10,
}
METRICS = tuple(_MEASURES)
_NEED_RELEVANT = 2  # the first metrics say nothing of a query without a relevant item
_SEED = 7
_NAMED = 5  # queries that cannot be asked


@dataclass(frozen=True)
class JudgedRow:
    """The mean of a metric over judged queries, with its 95% bootstrap interval.

    Attributes:
        ranking: its name here.
        version: of the ranking configuration.
        value, low, high: None where no query has a relevant item, which nDCG needs.
        queries: over which the mean is.
    """

    ranking: str
    version: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    queries: int


@dataclass(frozen=True)
class Unasked:
    """A judged query that nobody can ask, such as one of a text that is too long.

    Attributes:
        user: the shopper's id, "" for none.
        text: "" for none.
        judgments: number of its judgments.
        problem: why it cannot be asked.
    """

    user: str
    text: str
    judgments: int
    problem: str


@dataclass(frozen=True)
class LeftOut:
    """Judgments that are not measured.

    Attributes:
        without_subject: number of those that name neither shopper nor text, for example of the items of a visit.
        owned: of items that the shopper has, which answers under none of the rankings show.
        missing: of items that the release lacks.
        unasked: queries with all their judgments.
    """

    without_subject: int
    owned: int
    missing: int
    unasked: tuple[Unasked, ...]

    def describe(self) -> Iterator[str]:
        """Yield a line that says how many there are of each kind, and a line for each of a few unasked queries."""
        counts = {
            "without shopper and text": self.without_subject,
            "of items that the shopper has": self.owned,
            "of items that the release lacks": self.missing,
            "of queries that cannot be asked": sum(each.judgments for each in self.unasked),
        }
        if told := ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count):
            yield f"judgments left out: {told}"
        for each in self.unasked[:_NAMED]:
            named = {"user": each.user, "text": each.text}
            query = ", ".join(f"{name} {shorten(value)!r}" for name, value in named.items() if value)
            yield f"cannot be asked: {query}: {each.problem}"
        if (more := len(self.unasked) - _NAMED) > 0:
            yield f"cannot be asked: {more:,} more, which --json names"


@dataclass(frozen=True)
class JudgedResults:
    """The rankings by the judgments.

    Attributes:
        release: that answered.
        judgments: number of judged pairs of a query and an item that are measured.
        queries: a query is a shopper, a text, or both.
        left_out: the other judgments.
        rows: one for each ranking and metric.
        differences: of the rankings in nDCG@10, paired over queries.
    """

    release: str
    judgments: int
    queries: int
    left_out: LeftOut
    rows: tuple[JudgedRow, ...]
    differences: tuple[Difference, ...]


def evaluate_judged(
    index: Searcher,
    rankings: Mapping[str, Ranking],
    judgments: Mapping[tuple[str, str, str], int],
    say: Callable[[str], None] = lambda step: None,
) -> JudgedResults:
    """Answer every judged query under each ranking, and measure the answers.

    Args:
        index: an open release; its ranking is another one afterwards.
        rankings: by name.
        judgments: by shopper, query and item, see `read_judgments`; above 0 is relevant.
        say: receives the name of each long step.

    Raises:
        UsageError: all judgments are left out.
        RunError: the index does not answer.
    """
    given: dict[tuple[str, str], dict[str, int]] = {}
    for (user, text, item), judgment in judgments.items():
        if user or text:
            given.setdefault((user, text), {})[normal_form(item)] = judgment
    wanted: list[_Wanted] = []
    unasked = []
    owned = missing = 0
    for (user, text), items in given.items():
        try:
            query = Query(user=user or None, text=text or None, k=DEPTH)
        except UsageError as error:
            unasked.append(Unasked(user, text, len(items), str(error)))
            continue
        known, possible = _possible(index, query, items, rankings)
        owned, missing = owned + len(known) - len(possible), missing + len(items) - len(known)
        if possible:
            wanted.append(_Wanted(query, {item: items[item] for item in possible}))
    without_subject = sum(not (user or text) for user, text, _ in judgments)
    left_out = LeftOut(without_subject, owned, missing, tuple(unasked))
    if not wanted:
        told = "; ".join(left_out.describe())
        raise UsageError(f"there is nothing to measure: judge answers on the page of `vlm4rec serve` ({told})")
    measured = []
    for name, ranking in rankings.items():
        say(f"Answering {len(wanted):,} judged queries under the ranking {name}")
        index.ranking = ranking
        measured.append(_measure(index, wanted))
    values = np.hstack(measured)
    samples = resampled_means(values, _SEED)
    counts = (~np.isnan(values)).sum(axis=0)
    named = [(name, ranking.version, metric) for name, ranking in rankings.items() for metric in METRICS]
    rows = [
        JudgedRow(*names, *numbers, queries=queries)
        for names, numbers, queries in zip(named, mean_intervals(values, samples), counts.tolist(), strict=True)
    ]
    first = [place * len(METRICS) for place in range(len(rankings))]
    differences = compare(list(rankings), values[:, first], samples[:, first]) if counts.all() else []
    pairs = sum(len(each.items) for each in wanted)
    return JudgedResults(index.release.name, pairs, len(wanted), left_out, tuple(rows), tuple(differences))


class _Wanted(NamedTuple):
    """A query and the judgments, by item, of what an answer may show."""

    query: Query
    items: Mapping[str, int]


def _possible(
    index: Searcher, query: Query, items: Iterable[str], rankings: Mapping[str, Ranking]
) -> tuple[list[str], list[str]]:
    """Return the items that the release has, and those of them that an answer under any of the rankings may have."""
    reader = index.backend.reader()
    known = list(reader.items([item for item in items if item]))
    user = None if query.user is None else reader.user(query.user)
    excluded = set.intersection(*(excluded_items(query, user, ranking) for ranking in rankings.values()))
    return known, [item for item in known if item not in excluded]


def _measure(index: Searcher, wanted: Sequence[_Wanted]) -> Floats:
    """Return the metrics of each query, float64 (q, m); NaN where a query has nothing to find."""
    values = np.zeros((len(wanted), len(METRICS)))
    answers = [[hit.item_id for hit in index.search_whole(each.query).hits] for each in wanted]
    # An empty list is left out: every metric of it is 0, and Judged divides by its length.
    runs = {str(row): to_run(items) for row, items in enumerate(answers) if items}
    judged = {str(row): dict(each.items) for row, each in enumerate(wanted)}
    places = {measure: place for place, measure in enumerate(_MEASURES.values())}
    for found in ir_measures.iter_calc(list(places), judged, runs):
        values[int(found.query_id), places[found.measure]] = found.value
    nothing = [row for row, each in enumerate(wanted) if not any(each.items.values())]
    values[nothing, :_NEED_RELEVANT] = np.nan
    return values
