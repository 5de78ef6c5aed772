"""How a product is outlined, in a unit square (x to the right, y downwards)."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Points = tuple[tuple[float, ...], ...]
"""Knots `(x, y)` of a smooth curve; `(x, y, 1)` is a corner."""


@dataclass(frozen=True)
class Shape:
    """What a product is made of, from back to front."""

    outlines: tuple[Points, ...]
    strokes: tuple[Points, ...] = ()
    stroke_width: float = 0.03
    accents: tuple[Points, ...] = ()
    openings: tuple[Points, ...] = ()
    seams: tuple[Points, ...] = ()
    trim: tuple[float, float] = (0.5, 0.4)


@cache
def curve(points: Points, closed: bool) -> npt.NDArray[np.float64]:
    """Return points (n, 2) of a cubic Hermite curve through the knots; the tangent is zero at corners.

    Tangents elsewhere are those of a Catmull-Rom spline: half the way between the two neighbours.
    """
    knots = np.array([point[:2] for point in points])
    soft = np.array([len(point) == 2 for point in points])[:, None]
    tangents = (np.roll(knots, -1, 0) - np.roll(knots, 1, 0)) / 2 * soft
    if not closed:
        tangents[[0, -1]] = 0
    t = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
    start, end = knots[:, None], np.roll(knots, -1, 0)[:, None]
    leaving, arriving = tangents[:, None], np.roll(tangents, -1, 0)[:, None]
    path = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * leaving
    path += (3 * t**2 - 2 * t**3) * end + (t**3 - t**2) * arriving
    return path.reshape(-1, 2) if closed else np.vstack([path[:-1].reshape(-1, 2), knots[-1:]])


def mirrored(*left: tuple[float, ...]) -> Points:
    """Close a left half, given from the top to the bottom, with its mirror image."""
    right = tuple((1 - point[0], *point[1:]) for point in reversed(left) if point[0] != 0.5)
    return (*left, *right)


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """Return the knots of an ellipse."""
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return tuple((x + rx * float(np.cos(turn)), y + ry * float(np.sin(turn))) for turn in turns)
