"""Significance: paired bootstrap over users, and Holm's correction for many comparisons."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vlm4rec_search.common.vectors import Floats

RESAMPLES = 10_000
LEVEL = 0.95
_CELLS = 4_000_000  # draws held at once: 32 MB


@dataclass(frozen=True)
class Difference:
    """System `a` minus system `b` in the mean of one metric, over the same users.

    Attributes:
        low, high: 95% interval of the difference.
        p: two-sided bootstrap p-value, not corrected.
        corrected: the same after Holm, over all pairs of the metric.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    corrected: float


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
    drawn = samples[:, first] - samples[:, second]
    low, high = interval(drawn)
    count = len(drawn) + 1
    ends = np.minimum((drawn <= 0).sum(axis=0) + 1, (drawn >= 0).sum(axis=0) + 1)
    p = np.minimum(1.0, 2.0 * ends / count)
    means = np.nanmean(values, axis=0)
    rows = zip(first, second, means[first] - means[second], low, high, p, holm(p), strict=True)
    return [Difference(names[a], names[b], *(float(value) for value in rest)) for a, b, *rest in rows]


def holm(p: Floats) -> Floats:
    """Return Holm's adjusted p-values (Holm 1979): the i-th smallest times (m - i + 1), never decreasing, at most 1."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected
