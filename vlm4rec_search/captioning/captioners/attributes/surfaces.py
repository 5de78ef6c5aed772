"""The surface of a photo: how rough it is at three scales, which way its lines run, how it takes the light."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from vlm4rec_search.captioning.captioners.attributes.colours import Floats, Mask
from vlm4rec_search.captioning.captioners.attributes.figure import Figure

_BLURS = (0.0, 0.9, 2.2, 5.0, 12.0)


@dataclass(frozen=True)
class Surface:
    """Roughness in units of lightness L* for details of about 2, 5, 12 and 30 pixels.

    `coherence` is 0 for no direction and 1 for parallel lines; `angle` is that of the lines in degrees, 0 horizontal,
    90 vertical, 45 rising to the right. `gloss` is the share of pixels much lighter than their surroundings.
    """

    rough: tuple[float, ...]
    coherence: tuple[float, ...]
    angle: tuple[float, ...]
    gloss: float


def measure(figure: Figure, still: Mask) -> Surface:
    """Measure the surface over the pixels `still` (h, w): inside the product and away from the edges of its pattern."""
    light = figure.lab[..., 0]
    blurred = [_blur(light, figure.mask, sigma) for sigma in _BLURS]
    bands = [fine - coarse for fine, coarse in pairwise(blurred)]
    rough = tuple(_spread(band[still]) for band in bands)
    lines = [_lines(band, still) for band in bands]
    gloss = float((light - blurred[-1] > 14)[still].mean())
    return Surface(rough, tuple(line[0] for line in lines), tuple(line[1] for line in lines), gloss)


def _blur(light: Floats, mask: Mask, sigma: float) -> Floats:
    """Blur within the product only, so that the background does not bleed in."""
    if sigma == 0.0:
        return light
    if sigma < 1.0:  # reaches 3 pixels; the pixels that are measured lie further inside
        return np.asarray(ndimage.gaussian_filter(light, sigma, truncate=3))
    inside = mask.astype(np.float32)
    weight = ndimage.gaussian_filter(inside, sigma, truncate=3)
    return np.asarray(ndimage.gaussian_filter(light * inside, sigma, truncate=3) / np.maximum(weight, 1e-3))


def _spread(values: Floats) -> float:
    """Return the standard deviation as estimated from the median absolute deviation, which ignores seams and trims."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _lines(band: Floats, still: Mask) -> tuple[float, float]:
    """Return coherence and angle of the structure tensor (Bigun and Granlund 1987), mean over the pixels."""
    down, across = np.gradient(band, axis=0), np.gradient(band, axis=1)
    xx, yy, xy = (float(np.mean(product[still])) for product in (across**2, down**2, across * down))
    energy = xx + yy
    coherence = float(np.hypot(xx - yy, 2 * xy)) / energy if energy > 0 else 0.0
    gradient = 0.5 * np.degrees(np.arctan2(2 * xy, xx - yy))  # image rows grow downwards
    return coherence, float((90.0 - gradient) % 180.0)
