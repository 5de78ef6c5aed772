"""Where the marks of a forest plot stand; the page draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vlm4rec_search.evaluation.results import Row

LABELS, WIDTH, LINE, TOP = 230, 480, 24, 28
TICKS = 5


@dataclass(frozen=True)
class Mark:
    """One system: its line (y), the ends and the middle of its interval (x), and the numbers in words."""

    label: str
    y: int
    low: float
    middle: float
    high: float
    text: str


@dataclass(frozen=True)
class Forest:
    """A plot in pixels: marks, and ticks (x, label)."""

    metric: str
    width: int
    height: int
    marks: list[Mark]
    ticks: list[tuple[float, str]]


def forest(rows: Sequence[Row], metric: str) -> Forest:
    """Return the plot of a metric's intervals, best system first; rows without an interval are left out.

    Args:
        rows: of one comparison.
        metric: such as nDCG@10.
    """
    drawn = [(row, row.value, row.low, row.high) for row in rows if row.metric == metric]
    sure = [(row, value, low, high) for row, value, low, high in drawn if None not in (value, low, high)]
    sure.sort(key=lambda one: -(one[1] or 0.0))
    largest = max((high or 0.0 for *_, high in sure), default=0.0) or 1.0
    step = _step(largest)
    end = step * math.ceil(largest / step)

    def x(value: float | None) -> float:
        return round(LABELS + WIDTH * (value or 0.0) / end, 1)

    marks = [
        Mark(row.system, TOP + LINE * place, x(low), x(value), x(high), f"{value:.4f} [{low:.4f}, {high:.4f}]")
        for place, (row, value, low, high) in enumerate(sure)
    ]
    ticks = [(x(step * number), f"{step * number:g}") for number in range(round(end / step) + 1)]
    return Forest(metric, LABELS + WIDTH + 190, TOP + LINE * len(marks) + 14, marks, ticks)


def _step(largest: float) -> float:
    """Return 1, 2 or 5 times a power of ten, such that about `TICKS` steps reach the largest value."""
    rough = largest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999))
