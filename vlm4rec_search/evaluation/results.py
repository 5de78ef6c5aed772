"""The results of an evaluation: means with intervals, slices, and differences between systems."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from vlm4rec_search.common.vectors import Floats, Ints, Mask
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.evaluation.metrics import ACCURACY, BEYOND, accuracy
from vlm4rec_search.evaluation.run import Comparison, Evaluation, Outcome
from vlm4rec_search.evaluation.significance import Difference, compare, mean_intervals, resampled_means
from vlm4rec_search.search.exposure import TORSO

# Parts of the users and of what they had to find: where does a system win, and where does it lose?

LENGTHS = ((2, 4), (5, 19), (20, None))
AGES = ((0, 29), (30, 179), (180, None))
HEAD = 0.1  # share of all items in histories, most popular first, as TORSO is


class Slice(NamedTuple):
    """A slice: its criterion, its name, and its targets."""

    by: str
    name: str
    targets: Targets


def cut(split: Split, targets: Targets) -> Iterator[Slice]:
    """Yield the slices with a user: by length of the history, and by age and popularity of the relevant items.

    Where items of the history may be ranked, also by whether they are new to the user: repeat and explore.
    """
    lengths = np.diff(split.seen.indptr)[targets.users]
    for low, high in LENGTHS:
        kept = np.flatnonzero((lengths >= low) & (lengths <= (high or np.inf)))
        yield from _some("history", f"{_span(low, high)} items", _take(targets, kept))
    for by, name, items in (*_ages(split), *_popularity(split)):
        yield from _some(by, name, targets.within(items))
    if split.repeat:
        everything = np.ones(split.shape[1], dtype=np.bool_)
        repeats = sparse.csr_array(targets.relevant.multiply(split.excluded[targets.users]))
        for name, relevant in (("repeat", repeats), ("explore", sparse.csr_array(targets.relevant - repeats))):
            yield from _some("purchase", name, Targets(targets.users, relevant).within(everything))


def _some(by: str, name: str, targets: Targets) -> Iterator[Slice]:
    if len(targets.users):
        yield Slice(by, name, targets)


def _take(targets: Targets, rows: "np.typing.NDArray[np.int64]") -> Targets:
    return Targets(targets.users[rows], sparse.csr_array(targets.relevant[rows]))


def _ages(split: Split) -> Iterator[tuple[str, str, Mask]]:
    """Yield items by the days from their first interaction to the cut."""
    new = split.popularity == 0
    first = np.where(new, split.as_of, split.first_seen)
    days = (split.as_of - first).astype("timedelta64[us]").astype(np.int64) / 86_400_000_000
    yield "item age", "never taken before", new
    for low, high in AGES:
        until = np.inf if high is None else high + 1
        yield "item age", f"{_span(low, high)} days", ~new & (days >= low) & (days < until)


def _popularity(split: Split) -> Iterator[tuple[str, str, Mask]]:
    taken = int((split.popularity > 0).sum())
    rank = np.empty(split.shape[1])
    rank[np.argsort(-split.popularity, kind="stable")] = np.arange(split.shape[1])
    known = split.popularity > 0
    yield "popularity", "head: top 10%", known & (rank < HEAD * taken)
    yield "popularity", "torso: next 40%", known & (rank >= HEAD * taken) & (rank < TORSO * taken)
    yield "popularity", "tail: the rest", known & (rank >= TORSO * taken)


def _span(low: int, high: int | None) -> str:
    return f"{low} or more" if high is None else f"{low} to {high}"


METRICS = (*ACCURACY, *BEYOND)
SLICED = ("R@10", "nDCG@10")


@dataclass(frozen=True)
class Row:
    """One number: the mean of a metric over users, with its 95% bootstrap interval.

    Attributes:
        low, high: None for the metrics of all lists, such as coverage, which are no means over users.
        users, items: how many were asked, and how many candidates they were offered.
        on: which candidates.
        slice: which part of users or targets; empty for all.
        setting: what the system chose on validation.
        seeds: how many seeds the value is the mean of.
        spread: best seed minus worst; None where there is one seed.
        is_bound: whether the system knew the answers; it takes no part in differences.
    """

    system: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    users: int
    items: int
    on: str
    slice: str = ""
    setting: str = ""
    seeds: int = 1
    spread: float | None = None
    is_bound: bool = False


@dataclass(frozen=True)
class Results:
    """All rows of an evaluation, and the paired differences by metric, on all candidates."""

    protocol: dict[str, object]
    rows: list[Row]
    slices: list[Row]
    differences: dict[str, list[Difference]]

    def to_json(self) -> dict[str, object]:
        """Return the shape of `evaluate --json`; the differences in other metrics are in the results file."""
        named = [{"metric": name, **asdict(one)} for name in SLICED for one in self.differences[name]]
        plain = {"rows": [asdict(row) for row in self.rows], "slices": [asdict(row) for row in self.slices]}
        return {"protocol": self.protocol, **plain, "differences": named}


def summarise(evaluation: Evaluation, protocol: dict[str, object], seed: int) -> Results:
    """Return means, intervals, slices and paired differences of an evaluation.

    Args:
        evaluation: of any systems.
        protocol: plain values that say how it was done; what is known of users and items is added.
        seed: of the bootstrap.
    """
    whole = evaluation.comparisons[0]
    samples = [resampled_means(_values(comparison), seed) for comparison in evaluation.comparisons]
    pairs = zip(evaluation.comparisons, samples, strict=True)
    rows = [row for comparison, drawn in pairs for row in _rows(comparison, drawn)]
    split = whole.part.split
    about = {
        **protocol,
        "as_of": str(split.as_of),
        "users": len(whole.part.targets.users),
        "items": int(split.candidates.sum()),
        "skipped": evaluation.skipped,
        "seconds": {outcome.system: outcome.seconds for outcome in whole.outcomes},
    }
    return Results(about, rows, list(_slices(whole, seed)), _differences(whole, samples[0]))


def _values(comparison: Comparison) -> Floats:
    """Return the metrics of all systems side by side, (u, systems x metrics)."""
    return np.hstack([outcome.values for outcome in comparison.outcomes])


def _rows(comparison: Comparison, samples: Floats) -> Iterator[Row]:
    users, items = len(comparison.part.targets.users), int(comparison.part.split.candidates.sum())
    numbers = iter(mean_intervals(_values(comparison), samples))
    for outcome in comparison.outcomes:
        seeds = len(outcome.rankings)
        about = Row(
            outcome.system,
            metric="",
            value=None,
            low=None,
            high=None,
            users=users,
            items=items,
            on=comparison.on,
            setting=outcome.setting,
            seeds=seeds,
            is_bound=outcome.is_bound,
        )
        for place, metric in enumerate(METRICS):
            value, low, high = next(numbers)
            spread = float(outcome.spread[place]) if seeds > 1 else None
            yield replace(about, metric=metric, value=value, low=low, high=high, spread=spread)
        for metric, value in outcome.of_all_lists.items():
            yield replace(about, metric=metric, value=value)


def _slices(whole: Comparison, seed: int) -> Iterator[Row]:
    split = whole.part.split
    items = int(split.candidates.sum())
    for part in cut(split, whole.part.targets):
        rows = np.searchsorted(whole.part.targets.users, part.targets.users)
        values = np.hstack([_accuracy(outcome, rows, part.targets) for outcome in whole.outcomes])
        numbers = iter(mean_intervals(values, resampled_means(values, seed)))
        users, name = len(rows), f"{part.by}: {part.name}"
        for outcome in whole.outcomes:
            for metric in SLICED:
                value, low, high = next(numbers)
                yield Row(
                    outcome.system,
                    metric,
                    value=value,
                    low=low,
                    high=high,
                    users=users,
                    items=items,
                    on=whole.on,
                    slice=name,
                    setting=outcome.setting,
                    is_bound=outcome.is_bound,
                )


def _accuracy(outcome: Outcome, rows: Ints, targets: Targets) -> Floats:
    """Return the mean over seeds of the metrics `SLICED` of some rows, (u, 2)."""
    found = [accuracy(ranking[rows], targets.relevant, SLICED) for ranking in outcome.rankings]
    mean: Floats = np.mean(found, axis=0)
    return mean


def _differences(whole: Comparison, samples: Floats) -> dict[str, list[Difference]]:
    compared = [place for place, outcome in enumerate(whole.outcomes) if not outcome.is_bound]
    names = [whole.outcomes[place].system for place in compared]
    values = _values(whole)
    columns = {metric: [system * len(METRICS) + place for system in compared] for place, metric in enumerate(ACCURACY)}
    return {metric: compare(names, values[:, every], samples[:, every]) for metric, every in columns.items()}
