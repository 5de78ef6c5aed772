"""Which of two variants shoppers chose: the outcome of a live comparison, from what was served and what came back."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt

import duckdb
import numpy as np
from numpy.typing import NDArray

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.evaluation.significance import (
    RESAMPLES,
    SIGNIFICANT,
    interval,
    paired_p,
    resampled_means,
    unpaired_p,
)
from vlm4rec_search.search.experiments import Experiment

ACTIONS = {"click": "was_clicked", "cart": "went_into_cart", "purchase": "was_bought"}
"""What is measured, by name, and its column of served.outcomes."""
SUSPICIOUS = 0.001  # a smaller probability of the numbers of shoppers makes the comparison void
_SEED = 1
# The reward of an answer: with `split` 1 where any of its items was acted on, with `interleave` the items of each team.
# An answer without items counts; its reward is 0.
_REWARDS = """
WITH acted AS (
    SELECT recommendation_id, item_id FROM served.outcomes WHERE {column}
), answers AS (
    SELECT
        shown.recommendation_id, ANY_VALUE(shown.user_id) AS user_id, ANY_VALUE(shown.arm) AS arm,
        COUNT(acted.item_id) AS taken,
        COUNT(acted.item_id) FILTER (shown.team = 'a') AS taken_a,
        COUNT(acted.item_id) FILTER (shown.team = 'b') AS taken_b
    FROM served.recommendations AS shown
    LEFT JOIN acted ON acted.recommendation_id = shown.recommendation_id AND acted.item_id = shown.item_id
    WHERE shown.experiment = $name AND shown.user_id IS NOT NULL AND (shown.arm IS NULL) = $mixed
    GROUP BY shown.recommendation_id
)
SELECT
    user_id, MAX(arm) AS arm, COUNT(DISTINCT arm) AS arms, COUNT(*) AS answers,
    AVG(CAST(taken > 0 AS DOUBLE)) AS rate, AVG(taken_a) AS rate_a, AVG(taken_b) AS rate_b
FROM answers
GROUP BY user_id
ORDER BY user_id
"""


@dataclass(frozen=True)
class Outcome:
    """How often shoppers acted on the answers of the variants, as means over shoppers.

    Attributes:
        action: click, cart or purchase.
        a, b: with `split` the share of a shopper's answers that led to the action, with `interleave` the items per
            answer that the variant chose and that led to it.
        difference: b minus a.
        low, high: its 95% interval.
        p: two-sided p-value of the difference, not corrected; a handful of shoppers has a large one.
    """

    action: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """Which variant is better, if that is beyond chance."""
        if self.p >= SIGNIFICANT:
            return "no difference can be told"
        return "b is better" if self.difference > 0.0 else "a is better"


@dataclass(frozen=True)
class Comparison:
    """A live comparison.

    Attributes:
        experiment: its name.
        method: split or interleave.
        shoppers_a, shoppers_b: with `split` the shoppers of each variant; with `interleave` all shoppers, twice.
        answers: that took part.
        switched: shoppers who got both variants of a split, because share or salt were changed; they are left out.
        mismatch_p: with `split`, the probability of numbers of shoppers at least as far from the share, else None.
        outcomes: one for each action.
    """

    experiment: str
    method: str
    shoppers_a: int
    shoppers_b: int
    answers: int
    switched: int
    mismatch_p: float | None
    outcomes: tuple[Outcome, ...]

    @property
    def is_void(self) -> bool:
        """Whether the shoppers were not assigned as declared, so that the outcomes say nothing."""
        return self.mismatch_p is not None and self.mismatch_p < SUSPICIOUS


def compare_live(connection: duckdb.DuckDBPyConnection, name: str, experiment: Experiment) -> Comparison:
    """Return the outcome of a live comparison.

    Args:
        connection: to a database with served.recommendations and served.outcomes.
        name: of the experiment.
        experiment: its declaration.

    Raises:
        UsageError: nothing was served in it, or to fewer than two shoppers of a variant.
    """
    mixed = experiment.method == "interleave"
    outcomes: list[Outcome] = []
    counts = (0, 0, 0, 0)
    for action, column in ACTIONS.items():
        rows = connection.execute(_REWARDS.format(column=column), {"name": name, "mixed": mixed}).fetchall()
        kept = [row for row in rows if row[2] <= 1]  # of a split, shoppers of one variant
        answers, rewards = sum(row[3] for row in rows), np.array([row[4:] for row in kept], dtype=np.float64)
        if not kept:
            counts = (0, 0, answers, 0)
        elif mixed:
            pairs = rewards[:, 1:]
            counts = (len(kept), len(kept), answers, 0)
        else:
            pairs = by_arm(rewards[:, :1], np.array([row[1] == "b" for row in kept]))[:, :, 0]
            first, second = (int(number) for number in (~np.isnan(pairs)).sum(axis=0))
            counts = (first, second, answers, len(rows) - len(kept))
        if min(counts[:2]) < 2:
            raise UsageError(
                f"the experiment {name} has {counts[0]} and {counts[1]} shoppers: each variant needs at least two"
            )
        outcomes.append(_outcome(action, pairs))
    first, second, answers, switched = counts
    mismatch = None if mixed else mismatch_probability(first, second, experiment.share)
    return Comparison(name, experiment.method, first, second, answers, switched, mismatch, tuple(outcomes))


def by_arm(values: Floats, in_b: NDArray[np.bool_]) -> Floats:
    """Return values of shoppers as two columns for each metric, NaN under the variant that a shopper did not get.

    Args:
        values: (u, m), one row for each shopper.
        in_b: (u,), or (u, m), whether the shopper got b.

    Returns:
        float64 (u, 2, m).
    """
    of_b = np.broadcast_to(in_b if in_b.ndim == 2 else in_b[:, None], values.shape)
    return np.stack([np.where(of_b, np.nan, values), np.where(of_b, values, np.nan)], axis=1)


def differences(pairs: Floats, resamples: int = RESAMPLES) -> tuple[Floats, Floats, Floats, Floats]:
    """Return b minus a for each metric, the ends of its 95% interval, and its p-value, each (m,).

    For the interval shoppers are drawn with replacement, as in `evaluate`; NaN is left out.

    Args:
        pairs: float64 (u, 2, m), of `by_arm`, or of shoppers who got both.
        resamples: how many.
    """
    users, _, metrics = pairs.shape
    drawn = resampled_means(pairs.reshape(users, 2 * metrics), _SEED, resamples).reshape(resamples, 2, metrics)
    low, high = interval(drawn[:, 1] - drawn[:, 0])
    means = np.nanmean(pairs, axis=0)
    return means[1] - means[0], low, high, np.array([_p(pairs[:, :, metric]) for metric in range(metrics)])


def _p(pairs: Floats) -> float:
    """Return the p-value of one metric, (u, 2)."""
    there = ~np.isnan(pairs)
    if there.all():
        return paired_p(pairs[:, 1] - pairs[:, 0])
    return unpaired_p(pairs[there[:, 0], 0], pairs[there[:, 1], 1])


def mismatch_probability(first: int, second: int, share: float) -> float:
    """Return the probability of numbers of shoppers at least as far from the declared share (chi-squared test)."""
    total = first + second
    expected = total * share
    squares = (second - expected) ** 2 * (1.0 / expected + 1.0 / (total - expected))
    return erfc(sqrt(squares / 2.0))


def _outcome(action: str, pairs: Floats) -> Outcome:
    difference, low, high, p = (float(value[0]) for value in differences(pairs[:, :, None]))
    mean_a, mean_b = (float(value) for value in np.nanmean(pairs, axis=0))
    return Outcome(action, mean_a, mean_b, difference, low, high, p)


def known_experiments(connection: duckdb.DuckDBPyConnection) -> Sequence[str]:
    """Return the names of the experiments in which anything was served."""
    found = connection.execute(
        "SELECT DISTINCT experiment FROM served.recommendations WHERE experiment IS NOT NULL ORDER BY 1"
    )
    return [str(name) for (name,) in found.fetchall()]
