"""The pattern of a product: the arrangement of its two main colours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vlm4rec_search.captioning.captioners.attributes.colours import Colour, Floats, Mask, distance
from vlm4rec_search.captioning.captioners.attributes.figure import Figure

_DIRECTIONS = {
    "horizontal": (0.0, 1.0),
    "vertical": (1.0, 0.0),
    "falling diagonal": (0.7071, -0.7071),
    "rising diagonal": (0.7071, 0.7071),
}


@dataclass(frozen=True)
class Layout:
    """The position of the second colour.

    Attributes:
        share: share of the second colour in each pixel (h, w), from 0 to 1.
        inner: whether a pixel lies inside the product, away from its edge (h, w); only these count.
    """

    share: Floats
    inner: Mask


def lay_out(figure: Figure, first: Colour, second: Colour) -> Layout:
    """Return the share of the second colour in each slightly blurred pixel, from its distances to both colours."""
    blurred = np.stack([ndimage.gaussian_filter(figure.lab[..., axis], 1.2) for axis in range(3)], axis=-1)
    near, far = distance(blurred, first.lab), distance(blurred, second.lab)
    inner = ndimage.binary_erosion(figure.mask, iterations=4)
    return Layout((near / np.maximum(near + far, 1e-6)).astype(np.float32), inner)


def name_pattern(layout: Layout) -> str:
    """Return dots, checks, `<direction> stripes`, motifs, blocks or details (little of the second colour)."""
    if layout.inner.sum() < 400:
        return "details"
    parts = _name_parts(layout)
    if parts == "dots":
        return parts
    lines = {name: _measure_lines(layout, *axis) for name, axis in _DIRECTIONS.items()}
    across, down, *diagonals = (explained for explained, _ in lines.values())
    if min(across, down) > max(0.18, 0.5 * max(across, down), 1.5 * max(diagonals)):
        return "checks"
    best = max(lines, key=lambda name: lines[name][0])
    explained, cycles = lines[best]
    others = sorted(value for value, _ in lines.values())
    return f"{best} stripes" if explained > 0.4 and cycles >= 3 and explained - others[-2] > 0.1 else parts


def _measure_lines(layout: Layout, x: float, y: float) -> tuple[float, int]:
    """Return the share of variance that lines of one direction explain (eta squared, 0 to 1), and their full cycles."""
    rows, columns = np.nonzero(layout.inner)
    line = np.rint(columns * x + rows * y).astype(int)
    line -= line.min()
    values = layout.share[layout.inner].astype(np.float64)
    counts = np.bincount(line)
    means = np.bincount(line, weights=values) / np.maximum(counts, 1)
    long = counts > 0.25 * np.median(counts[counts > 0])
    mean, total = values.mean(), ((values - values.mean()) ** 2).sum()
    explained = (counts * (means - mean) ** 2).sum() / max(total, 1e-9)
    return float(explained), _count_cycles(means[long])


def _count_cycles(profile: NDArray[np.float64]) -> int:
    """Count the full swings of a profile between its low and its high third."""
    low, high = np.quantile(profile, [0.1, 0.9])
    sides = np.select([profile < low + (high - low) / 3, profile > high - (high - low) / 3], [-1, 1])
    return int((np.diff(sides[sides != 0]) != 0).sum()) // 2


def _name_parts(layout: Layout) -> str:
    marked = (layout.share > 0.5) & layout.inner
    labels, _ = ndimage.label(marked)
    areas = np.bincount(labels.ravel())[1:]
    large = np.flatnonzero(areas >= 12)
    if len(large) < 6:
        return "blocks" if marked.sum() > 0.18 * layout.inner.sum() else "details"
    round_parts = [_is_round(box, int(areas[part])) for part, box in _find_boxes(labels, large)]
    return "dots" if np.mean(round_parts) > 0.55 else "motifs"


def _find_boxes(labels: NDArray[np.signedinteger], parts: NDArray[np.intp]) -> list[tuple[int, tuple[slice, ...]]]:
    boxes = ndimage.find_objects(labels)
    return [(int(part), boxes[part]) for part in parts if boxes[part] is not None]


def _is_round(box: tuple[slice, ...], area: int) -> bool:
    """Return whether a part is about a disc: it fills pi/4 of its box, and the box is about a square."""
    height, width = (side.stop - side.start for side in box)
    return bool(0.7 < height / width < 1.43 and abs(area / (height * width) - 0.785) < 0.13)
