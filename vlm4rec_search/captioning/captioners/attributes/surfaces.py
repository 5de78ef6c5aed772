"""The surface of a product: its roughness at four scales, the direction of its lines, and its gloss."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from vlm4rec_search.captioning.captioners.attributes.colours import Floats, Mask
from vlm4rec_search.captioning.captioners.attributes.figure import Figure

_BLURS = (0.0, 0.9, 2.2, 5.0, 12.0)


@dataclass(frozen=True)
class Surface:
    """Measurements for details of about 2, 5, 12 and 30 pixels.

    Attributes:
        rough: roughness at each scale, in units of lightness L*.
        coherence: 0 for no direction, 1 for parallel lines, at each scale.
        angle: direction of the lines in degrees at each scale: 0 horizontal, 90 vertical, 45 rising to the right.
        gloss: share of pixels that are much lighter than their surroundings.
    """

    rough: tuple[float, ...]
    coherence: tuple[float, ...]
    angle: tuple[float, ...]
    gloss: float


def measure_surface(figure: Figure, pixels: Mask) -> Surface:
    """Measure the surface over a mask (h, w) of `pixels` inside the product and away from the edges of its pattern."""
    light = figure.lab[..., 0]
    blurred = [_blur(light, figure.mask, sigma) for sigma in _BLURS]
    bands = [fine - coarse for fine, coarse in pairwise(blurred)]
    rough = tuple(_estimate_spread(band[pixels]) for band in bands)
    lines = [_measure_lines(band, pixels) for band in bands]
    gloss = float((light - blurred[-1] > 14)[pixels].mean())
    return Surface(rough, tuple(line[0] for line in lines), tuple(line[1] for line in lines), gloss)


def _blur(light: Floats, mask: Mask, sigma: float) -> Floats:
    """Blur within the product only, so that the background does not bleed in."""
    if sigma == 0.0:
        return light
    if sigma < 1.0:  # it reaches 3 pixels, and the measured pixels lie further inside
        return np.asarray(ndimage.gaussian_filter(light, sigma, truncate=3))
    inside = mask.astype(np.float32)
    weight = ndimage.gaussian_filter(inside, sigma, truncate=3)
    return np.asarray(ndimage.gaussian_filter(light * inside, sigma, truncate=3) / np.maximum(weight, 1e-3))


def _estimate_spread(values: Floats) -> float:
    """Return the standard deviation, estimated from the median absolute deviation, which ignores seams and trims."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _measure_lines(band: Floats, pixels: Mask) -> tuple[float, float]:
    """Return coherence and angle of the mean structure tensor of the pixels (Bigun and Granlund 1987)."""
    down, across = np.gradient(band, axis=0), np.gradient(band, axis=1)
    xx, yy, xy = (float(np.mean(product[pixels])) for product in (across**2, down**2, across * down))
    energy = xx + yy
    coherence = float(np.hypot(xx - yy, 2 * xy)) / energy if energy > 0 else 0.0
    gradient = 0.5 * np.degrees(np.arctan2(2 * xy, xx - yy))  # image rows grow downwards
    return coherence, float((90.0 - gradient) % 180.0)
