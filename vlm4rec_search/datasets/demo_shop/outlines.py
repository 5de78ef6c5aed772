"""The outlines of every product of the built-in shop, in a unit square (x to the right, y downwards)."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Points = tuple[tuple[float, ...], ...]
"""Knots `(x, y)` of a smooth curve; `(x, y, 1)` is a corner."""


@dataclass(frozen=True)
class Shape:
    """The parts of a product, from back to front; `trim` is the point where trims are drawn."""

    outlines: tuple[Points, ...]
    strokes: tuple[Points, ...] = ()
    stroke_width: float = 0.03
    accents: tuple[Points, ...] = ()
    openings: tuple[Points, ...] = ()
    seams: tuple[Points, ...] = ()
    trim: tuple[float, float] = (0.5, 0.4)


@cache
def curve(points: Points, closed: bool) -> npt.NDArray[np.float64]:
    """Return points (n, 2) of a cubic Hermite curve through the knots.

    The tangent at a corner is zero. Elsewhere it is that of a Catmull-Rom spline: half of the vector from the
    previous knot to the next one.
    """
    knots = np.array([point[:2] for point in points])
    soft = np.array([len(point) == 2 for point in points])[:, None]
    tangents = (np.roll(knots, -1, 0) - np.roll(knots, 1, 0)) / 2 * soft
    if not closed:
        tangents[[0, -1]] = 0
    t = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
    start, end = knots[:, None], np.roll(knots, -1, 0)[:, None]
    leaving, arriving = tangents[:, None], np.roll(tangents, -1, 0)[:, None]
    curved = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * leaving
    curved += (3 * t**2 - 2 * t**3) * end + (t**3 - t**2) * arriving
    return curved.reshape(-1, 2) if closed else np.vstack([curved[:-1].reshape(-1, 2), knots[-1:]])


def path(text: str) -> Points:
    """Return the knots in a text such as `0.5,0.24 0.44,0.12,1`."""
    return tuple(tuple(map(float, knot.split(","))) for knot in text.split())


def mirrored(left_half: str) -> Points:
    """Return a closed outline: the knots of the left half, from top to bottom, and their mirror image."""
    left = path(left_half)
    right = tuple((1 - point[0], *point[1:]) for point in reversed(left) if point[0] != 0.5)
    return (*left, *right)


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """Return the knots of an ellipse."""
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return tuple((x + rx * float(np.cos(turn)), y + ry * float(np.sin(turn))) for turn in turns)


SHAPES: dict[str, Shape] = {
    "dress": Shape(
        (mirrored("0.5,0.24 0.44,0.12,1 0.38,0.12,1 0.37,0.25 0.33,0.32,1 0.39,0.5 0.21,0.88,1 0.5,0.91"),),
        seams=(path("0.39,0.5 0.5,0.515 0.61,0.5"), path("0.43,0.53 0.36,0.88"), path("0.57,0.53 0.64,0.88")),
        trim=(0.5, 0.4),
    ),
    "shirt": Shape(
        (mirrored("0.5,0.22,1 0.42,0.15,1 0.28,0.2 0.1,0.44,1 0.21,0.52,1 0.29,0.4,1 0.29,0.86,1 0.5,0.88"),),
        accents=(
            path("0.42,0.14,1 0.5,0.22,1 0.43,0.3,1 0.37,0.17,1"),
            path("0.58,0.14,1 0.5,0.22,1 0.57,0.3,1 0.63,0.17,1"),
        ),
        seams=(path("0.5,0.22 0.5,0.88"), path("0.29,0.4 0.3,0.22"), path("0.71,0.4 0.7,0.22")),
        trim=(0.61, 0.42),
    ),
    "jacket": Shape(
        (
            mirrored(
                "0.5,0.13,1 0.42,0.11,1 0.27,0.17 0.19,0.36 0.1,0.8,1 0.21,0.83,1 0.28,0.48,1 0.27,0.87,1 0.5,0.88,1"
            ),
        ),
        accents=(path("0.4,0.08 0.6,0.08 0.61,0.15,1 0.39,0.15,1"), mirrored("0.27,0.83,1 0.27,0.88,1")),
        seams=(
            path("0.495,0.13 0.495,0.87"),
            path("0.505,0.13 0.505,0.87"),
            path("0.28,0.48 0.29,0.18"),
            path("0.72,0.48 0.71,0.18"),
            path("0.32,0.62 0.42,0.7"),
            path("0.68,0.62 0.58,0.7"),
        ),
        trim=(0.62, 0.4),
    ),
    "trousers": Shape(
        (mirrored("0.5,0.1,1 0.34,0.1,1 0.29,0.34 0.26,0.9,1 0.44,0.91,1 0.5,0.4,1"),),
        accents=(mirrored("0.34,0.09,1 0.333,0.14,1"),),
        seams=(path("0.5,0.14 0.5,0.4"), path("0.33,0.16 0.37,0.24 0.42,0.15"), path("0.67,0.16 0.63,0.24 0.58,0.15")),
        trim=(0.38, 0.36),
    ),
    "skirt": Shape(
        (mirrored("0.5,0.2,1 0.36,0.2,1 0.3,0.42 0.15,0.8,1 0.5,0.86"),),
        accents=(mirrored("0.36,0.19,1 0.35,0.25,1"),),
        seams=(path("0.43,0.26 0.32,0.82"), path("0.5,0.26 0.5,0.85"), path("0.57,0.26 0.68,0.82")),
        trim=(0.5, 0.38),
    ),
    "sneaker": Shape(
        (path("0.1,0.68,1 0.1,0.38,1 0.22,0.45 0.36,0.31,1 0.46,0.42 0.62,0.53 0.82,0.56 0.91,0.68,1"),),
        accents=(path("0.08,0.66,1 0.92,0.66 0.93,0.73 0.9,0.76,1 0.1,0.76,1 0.07,0.72"),),
        seams=(
            path("0.41,0.45 0.5,0.38"),
            path("0.46,0.49 0.55,0.43"),
            path("0.51,0.53 0.61,0.48"),
            path("0.36,0.33 0.44,0.52 0.66,0.66"),
            path("0.7,0.55 0.74,0.6 0.73,0.66"),
            path("0.22,0.46 0.24,0.66"),
        ),
        trim=(0.32, 0.58),
    ),
    "tote": Shape(
        (path("0.2,0.4,1 0.8,0.4,1 0.84,0.88,1 0.5,0.9 0.16,0.88,1"),),
        strokes=(path("0.34,0.46 0.36,0.22 0.5,0.12 0.64,0.22 0.66,0.46"),),
        seams=(path("0.2,0.45 0.8,0.45"), path("0.17,0.8 0.83,0.8")),
        trim=(0.5, 0.58),
    ),
    "backpack": Shape(
        (mirrored("0.5,0.16 0.32,0.2 0.25,0.4 0.23,0.82 0.3,0.88 0.5,0.89"),),
        strokes=(
            path("0.43,0.18 0.45,0.08 0.55,0.08 0.57,0.18"),
            path("0.27,0.32 0.16,0.5 0.24,0.8"),
            path("0.73,0.32 0.84,0.5 0.76,0.8"),
        ),
        accents=(mirrored("0.5,0.56,1 0.33,0.56,1 0.31,0.82 0.5,0.84"),),
        seams=(path("0.27,0.36 0.5,0.4 0.73,0.36"), path("0.35,0.62 0.65,0.62")),
        trim=(0.5, 0.47),
    ),
    "hat": Shape(
        (ellipse(0.5, 0.65, 0.42, 0.11), mirrored("0.5,0.29 0.42,0.24 0.32,0.34 0.27,0.64,1 0.5,0.7")),
        accents=(path("0.28,0.55,1 0.5,0.6 0.72,0.55,1 0.73,0.63,1 0.5,0.69 0.27,0.63,1"),),
        seams=(path("0.5,0.29 0.47,0.38"), path("0.12,0.67 0.5,0.745 0.88,0.67")),
        trim=(0.5, 0.46),
    ),
    "cushion": Shape(
        (mirrored("0.5,0.19 0.12,0.14,1 0.16,0.5 0.12,0.86,1 0.5,0.81"),),
        seams=(path("0.19,0.2 0.22,0.5 0.19,0.8"), path("0.81,0.2 0.78,0.5 0.81,0.8")),
        trim=(0.5, 0.5),
    ),
    "mug": Shape(
        (
            path("0.2,0.27,1 0.66,0.27,1 0.64,0.8,1 0.57,0.845 0.43,0.865 0.29,0.845 0.22,0.8,1"),
            ellipse(0.43, 0.27, 0.23, 0.07),
        ),
        strokes=(path("0.63,0.38 0.8,0.36 0.85,0.52 0.78,0.67 0.63,0.7"),),
        stroke_width=0.05,
        openings=(ellipse(0.43, 0.27, 0.2, 0.05),),
        trim=(0.43, 0.56),
    ),
    "lamp": Shape(
        (mirrored("0.5,0.11,1 0.37,0.11,1 0.2,0.5,1 0.5,0.53"), ellipse(0.5, 0.87, 0.18, 0.045)),
        strokes=(path("0.5,0.5 0.5,0.86"),),
        stroke_width=0.04,
        seams=(path("0.365,0.13 0.5,0.14 0.635,0.13"), path("0.21,0.475 0.5,0.505 0.79,0.475")),
        trim=(0.5, 0.34),
    ),
    "chair": Shape(
        (
            mirrored("0.5,0.1 0.3,0.12 0.27,0.2 0.29,0.5,1 0.5,0.51"),
            path("0.26,0.55,1 0.74,0.55,1 0.82,0.66,1 0.5,0.68 0.18,0.66,1"),
        ),
        strokes=(
            path("0.33,0.48 0.3,0.86"),
            path("0.67,0.48 0.7,0.86"),
            path("0.22,0.64 0.2,0.93"),
            path("0.78,0.64 0.8,0.93"),
        ),
        seams=(path("0.32,0.17 0.5,0.15 0.68,0.17"),),
        trim=(0.5, 0.32),
    ),
    "vase": Shape(
        (mirrored("0.5,0.13,1 0.4,0.12,1 0.44,0.27 0.25,0.56 0.35,0.86,1 0.5,0.88"), ellipse(0.5, 0.125, 0.1, 0.025)),
        openings=(ellipse(0.5, 0.125, 0.08, 0.016),),
        seams=(path("0.43,0.25 0.5,0.26 0.57,0.25"),),
        trim=(0.5, 0.5),
    ),
}
