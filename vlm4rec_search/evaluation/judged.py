"""How good answers are by judgments of people, such as those of the page of the service, for one ranking or several.

nDCG@10 has the judgment as gain and counts an item that nobody judged as not relevant, which favours the ranking whose
answers people have looked at. Over the judged items only (condensed lists, Sakai 2007) it does not. Judged@10 says how
many of the first ten items have a judgment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import Judged, P, nDCG

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.evaluation.metrics import DEPTH, to_run
from vlm4rec_search.evaluation.significance import Difference, compare, mean_intervals, resampled_means
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
class JudgedResults:
    """The rankings by the judgments.

    Attributes:
        release: that answered.
        judgments: number of judged pairs of a query and an item.
        queries: a query is a shopper, a text, or both.
        without_subject: judgments that name neither, for example of the items of a visit; they are left out.
        rows: one for each ranking and metric.
        differences: of the rankings in nDCG@10, paired over queries.
    """

    release: str
    judgments: int
    queries: int
    without_subject: int
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
        UsageError: no judgment names a shopper or a text.
        RunError: the index does not answer.
    """
    wanted: dict[tuple[str, str], dict[str, int]] = {}
    for (user, text, item), judgment in judgments.items():
        if user or text:
            wanted.setdefault((user, text), {})[item] = judgment
    if not wanted:
        raise UsageError("no judgment names a shopper or a text: judge answers on the page of `vlm4rec serve`")
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
    pairs = sum(map(len, wanted.values()))
    left_out = len(judgments) - pairs
    return JudgedResults(index.release.name, pairs, len(wanted), left_out, tuple(rows), tuple(differences))


def _measure(index: Searcher, wanted: Mapping[tuple[str, str], Mapping[str, int]]) -> Floats:
    """Return the metrics of each query, float64 (q, m); NaN where a query has nothing to find."""
    values = np.zeros((len(wanted), len(METRICS)))
    answers = [_answer(index, user, text) for user, text in wanted]
    # An empty list is left out: every metric of it is 0, and Judged divides by its length.
    runs = {str(row): to_run(items) for row, items in enumerate(answers) if items}
    judged = {str(row): dict(items) for row, items in enumerate(wanted.values())}
    places = {measure: place for place, measure in enumerate(_MEASURES.values())}
    for found in ir_measures.iter_calc(list(places), judged, runs):
        values[int(found.query_id), places[found.measure]] = found.value
    nothing = [row for row, items in enumerate(wanted.values()) if not any(items.values())]
    values[nothing, :_NEED_RELEVANT] = np.nan
    return values


def _answer(index: Searcher, user: str, text: str) -> list[str]:
    answer = index.search_whole(Query(user=user or None, text=text or None, k=DEPTH))
    return [hit.item_id for hit in answer.hits]
