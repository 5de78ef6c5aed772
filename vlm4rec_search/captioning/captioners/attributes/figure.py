"""The product in its photo: separation from the background, and the proportions of its outline."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from scipy import ndimage

from vlm4rec_search.captioning.captioners.attributes.colours import Floats, Mask, to_lab

SIDE = 256
"""Pixels of the longer side at which photos are measured."""


@dataclass(frozen=True)
class Figure:
    """The smallest box around the product, at most SIDE x SIDE pixels.

    Attributes:
        lab: Lab colours (h, w, 3).
        mask: whether a pixel belongs to the product (h, w).
        weight: importance of each pixel (h, w); 0 outside the mask, and falling from the middle of the photo outwards.
    """

    lab: Floats
    mask: Mask
    weight: Floats


def cut_out(photo: Image) -> Figure:
    """Separate the product from a plain or softly graded background, which is estimated from the photo's border."""
    small = photo.copy()
    small.thumbnail((SIDE, SIDE))
    small = small.resize((max(small.width, 8), max(small.height, 8)))  # smaller photos have no pixels inside the border
    lab = to_lab(np.asarray(small.convert("RGB"), dtype=np.uint8))
    ground = _estimate_background(lab)
    mask = _clean(_find_differences(lab - ground, darker=0.4, limit=7.0))
    # A white studio or a pale product needs a lower threshold.
    if np.median(ground[..., 0]) > 98.5 or mask.mean() < 0.06:
        mask = _clean(_find_differences(lab - ground, darker=1.0, limit=2.5))
    if mask.mean() < 0.02:
        mask = np.ones_like(mask)
    weight = (_weigh_centre(*mask.shape) * mask).astype(np.float32)
    box = np.s_[_find_extent(mask, 1), _find_extent(mask, 0)]
    return Figure(lab[box], mask[box], weight[box])


def describe_outline(mask: Mask) -> str:
    """Return words for the proportions of a mask that fills its box, such as `tall outline, wider at the bottom`."""
    return ", ".join([f"{_name_proportions(mask)} outline", *_name_taper(mask), *_name_parts(mask)])


def _find_extent(mask: Mask, axis: int) -> slice:
    filled = np.flatnonzero(mask.any(axis=axis))
    return slice(int(filled[0]), int(filled[-1]) + 1)


def _estimate_background(lab: Floats) -> Floats:
    """Return the background (h, w, 3): a plane fitted to the border's colours without outliers."""
    height, width = lab.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    strip = max(2, min(height, width) // 24)
    border = np.ones((height, width), dtype=bool)
    border[strip:-strip, strip:-strip] = False
    border[-strip:] = False  # the lower border often shows the ground or the product
    usual = np.median(lab[border], axis=0)
    border &= np.sqrt(((lab - usual) ** 2).sum(axis=-1)) < 16
    if border.sum() < 16:
        return np.broadcast_to(usual, lab.shape).astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y], axis=-1)
    plane, *_ = np.linalg.lstsq(terms[border], lab[border], rcond=None)
    return np.asarray(terms @ plane, dtype=np.float32)


def _find_differences(difference: Floats, darker: float, limit: float) -> Mask:
    """Return the pixels whose Lab difference exceeds the limit.

    A shadow is darker than the background and has the same hue, so darkness alone is weighted by `darker`.
    """
    light = difference[..., 0]
    light = np.where(light < 0, darker * light, light)
    return np.asarray(np.sqrt(light**2 + difference[..., 1] ** 2 + difference[..., 2] ** 2) > limit)


def _clean(mask: Mask) -> Mask:
    """Remove specks and parts much smaller than the largest one, and fill small holes."""
    opened = ndimage.binary_opening(mask, iterations=2)
    labels, count = ndimage.label(opened)
    if not count:
        return np.zeros_like(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    parts = np.isin(labels, np.flatnonzero(sizes >= 0.15 * sizes.max()))
    holes, count = ndimage.label(~parts)
    small = np.bincount(holes.ravel(), minlength=count + 1) < 0.01 * mask.size
    small[0] = False
    return np.asarray(parts | small[holes])


def _weigh_centre(height: int, width: int) -> NDArray[np.float64]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(np.exp(-2.0 * (x**2 + y**2)))


def _name_proportions(box: Mask) -> str:
    ratio = box.shape[0] / box.shape[1]
    for limit, word in ((2.2, "very tall"), (1.3, "tall"), (0.77, "compact"), (0.45, "wide")):
        if ratio > limit:
            return word
    return "very wide"


def _name_taper(box: Mask) -> list[str]:
    """Compare the spans (leftmost to rightmost pixel) of the upper, middle and lower thirds."""
    spans = [_measure_span(third) for third in np.array_split(box, 3)]
    top, middle, bottom = spans
    if middle < 0.75 * min(top, bottom):
        return ["narrow in the middle"]
    if bottom > 1.35 * top:
        return ["wider at the bottom"]
    return ["wider at the top"] if top > 1.35 * bottom else []


def _measure_span(rows: Mask) -> float:
    filled = rows[rows.any(axis=1)]
    if not len(filled):
        return 1.0
    return float((filled.shape[1] - filled.argmax(axis=1) - filled[:, ::-1].argmax(axis=1)).mean())


def _name_parts(box: Mask) -> list[str]:
    words = []
    lowest = np.asarray(box[-max(2, len(box) // 8) :].any(axis=0))
    runs, _ = ndimage.label(ndimage.binary_closing(lowest, iterations=2))
    legs = int((np.bincount(runs)[1:] > 0.04 * box.shape[1]).sum())
    if legs > 1:
        words.append("standing on two parts" if legs == 2 else f"standing on {legs} parts")
    holes, count = ndimage.label(ndimage.binary_fill_holes(box) & ~box)
    if count and np.bincount(holes.ravel())[1:].max() > 0.005 * box.size:
        words.append("with an opening through it")
    return words
