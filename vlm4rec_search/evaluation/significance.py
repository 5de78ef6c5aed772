"""Significance: bootstrap intervals over users, p-values of Student's test, Holm's correction for many comparisons."""

from dataclasses import dataclass
from itertools import combinations
from math import exp, lgamma, log, sqrt
from typing import TypeAlias

import numpy as np
from scipy.special import stdtr

from vlm4rec_search.common.vectors import Floats

RESAMPLES = 10_000
LEVEL = 0.95
SIGNIFICANT = 0.05  # a smaller p-value is beyond chance
_CELLS = 4_000_000  # draws held at once: 32 MB
Number: TypeAlias = tuple[float | None, float | None, float | None]  # a mean and the ends of its interval


@dataclass(frozen=True)
class Difference:
    """System `a` minus system `b` in the mean of one metric, over the same users.

    Attributes:
        low, high: 95% interval of the difference.
        p: two-sided p-value of `paired_p`, not corrected.
        corrected: the same after Holm, over all pairs of the metric.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    corrected: float

    def seen_from(self, system: str) -> "Difference":
        """Return the difference of one of the two systems minus the other."""
        if system == self.a:
            return self
        return Difference(self.b, self.a, -self.difference, -self.high, -self.low, self.p, self.corrected)


def resampled_means(values: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return the means of `resamples` samples of users with replacement (Efron 1979), float64 (resamples, columns).

    Every column sees the same samples: differences of columns are paired.

    Args:
        values: float64 (u, columns), one row for each user; NaN is left out of a mean.
        seed: the same seed gives the same samples.
        resamples: how many.
    """
    users = len(values)
    draw = np.random.default_rng(seed)
    there = ~np.isnan(values)
    both = np.hstack([np.where(there, values, 0.0), there.astype(np.float64)])
    means = np.empty((resamples, values.shape[1]))
    step = max(1, _CELLS // max(users, 1))
    for low in range(0, resamples, step):
        size = min(step, resamples - low)
        picked = draw.integers(0, users, (size, users)) + users * np.arange(size)[:, None]
        counts = np.bincount(picked.ravel(), minlength=size * users).reshape(size, users)
        sums = counts.astype(np.float64) @ both
        with np.errstate(invalid="ignore", divide="ignore"):
            means[low : low + size] = sums[:, : values.shape[1]] / sums[:, values.shape[1] :]
    return means


def interval(samples: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the 95% percentile interval of each column of (resamples, columns)."""
    # Without NaN, the plain quantile is many times faster.
    quantile = np.nanquantile if np.isnan(samples).any() else np.quantile
    ends = quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ends[0], ends[1]


def mean_intervals(values: Floats, samples: Floats) -> list[Number]:
    """Return the mean of each column with the ends of its 95% interval, three times None where it has no value.

    Args:
        values: (u, columns), one row for each user; NaN is left out.
        samples: (resamples, columns), from `resampled_means` of the same values.
    """
    counts = (~np.isnan(values)).sum(axis=0)
    means, known = np.nansum(values, axis=0) / np.maximum(counts, 1), counts > 0
    low, high = interval(samples[:, known])
    numbers = zip(means[known].tolist(), low.tolist(), high.tolist(), strict=True)
    return [next(numbers) if is_known else (None, None, None) for is_known in known.tolist()]


def compare(names: list[str], values: Floats, samples: Floats) -> list[Difference]:
    """Return the difference of each pair of systems in one metric.

    Args:
        names: of the systems.
        values: (u, systems), the metric of each user.
        samples: (resamples, systems), from `resampled_means` of the same values.
    """
    pairs = list(combinations(range(len(names)), 2))
    if not pairs:
        return []
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    low, high = interval(samples[:, first] - samples[:, second])
    p = np.array([paired_p(values[:, a] - values[:, b]) for a, b in pairs])
    means = np.nanmean(values, axis=0)
    rows = zip(first, second, means[first] - means[second], low, high, p, holm(p), strict=True)
    return [Difference(names[a], names[b], *(float(value) for value in rest)) for a, b, *rest in rows]


def paired_p(differences: Floats) -> float:
    """Return the two-sided p-value of the mean difference of users, by Student's paired test.

    It agrees with tests by resampling (Smucker, Allan and Carterette 2007), whose p-values end at one by the number of
    resamples, which is too large for many comparisons. It is never smaller than the test of all signs allows: with n
    differences other than 0 at least 2^(1 - n), so that a handful of users proves nothing.

    Args:
        differences: float64 (u,); NaN is left out.
    """
    known = differences[~np.isnan(differences)]
    error = known.std(ddof=1) / sqrt(len(known)) if len(known) > 1 else 0.0
    floor = float(np.ldexp(1.0, 1 - np.count_nonzero(known)))
    return _two_sided(float(known.mean()) if len(known) else 0.0, error, len(known) - 1, floor)


def unpaired_p(first: Floats, second: Floats) -> float:
    """Return the two-sided p-value of the difference of the means of two groups of users, by Welch's test (1947).

    It is never smaller than the test of all divisions into two such groups allows.

    Args:
        first: float64 (u,), without NaN.
        second: float64 (v,), without NaN.
    """
    if min(len(first), len(second)) < 2:
        return 1.0
    errors = np.array([each.var(ddof=1) / len(each) for each in (first, second)])
    total = float(errors.sum())
    freedom = total**2 / float(np.sum(errors**2 / [len(first) - 1, len(second) - 1])) if total else 1.0
    # Two of all divisions; their number is beyond a float for a thousand users.
    floor = exp(log(2.0) + lgamma(len(first) + 1) + lgamma(len(second) + 1) - lgamma(len(first) + len(second) + 1))
    return _two_sided(float(second.mean() - first.mean()), sqrt(total), freedom, floor)


def _two_sided(mean: float, error: float, freedom: float, floor: float) -> float:
    """Return the p-value of a mean with a standard error, at least the floor."""
    if not mean:
        return 1.0
    p = 2.0 * float(stdtr(freedom, -abs(mean) / error)) if error else 0.0
    return min(1.0, max(p, floor))


def holm(p: Floats) -> Floats:
    """Return Holm's adjusted p-values (Holm 1979): the i-th smallest times (m - i + 1), never decreasing, at most 1."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected
