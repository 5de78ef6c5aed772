"""Names for the colours of a photo: CIELAB, a small palette, and the peaks of a colour histogram."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_PALETTE: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 243),
    "light grey": (200, 201, 203),
    "grey": (138, 139, 142),
    "charcoal": (74, 75, 79),
    "black": (28, 28, 31),
    "cream": (247, 234, 207),
    "beige": (208, 188, 156),
    "tan": (178, 138, 96),
    "brown": (112, 70, 42),
    "burgundy": (112, 28, 46),
    "red": (206, 36, 42),
    "coral": (240, 104, 88),
    "orange": (242, 128, 30),
    "peach": (250, 196, 150),
    "mustard": (202, 152, 44),
    "yellow": (246, 214, 50),
    "pale yellow": (240, 236, 130),
    "lime": (160, 206, 50),
    "olive": (112, 116, 56),
    "green": (42, 150, 68),
    "light green": (136, 206, 146),
    "dark green": (24, 74, 46),
    "mint": (146, 224, 200),
    "teal": (24, 136, 130),
    "turquoise": (64, 198, 208),
    "light blue": (152, 200, 238),
    "sky blue": (48, 144, 228),
    "blue": (30, 82, 196),
    "slate blue": (96, 120, 156),
    "dark blue": (16, 20, 138),
    "navy": (34, 44, 86),
    "purple": (92, 50, 150),
    "dark purple": (70, 46, 100),
    "pale purple": (176, 166, 202),
    "lilac": (180, 152, 222),
    "plum": (94, 38, 84),
    "magenta": (202, 38, 136),
    "pink": (240, 158, 184),
    "rose": (202, 92, 120),
}

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_RGB_TO_WHITE = (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
_CODES = np.arange(256) / 255.0
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_LIGHTNESS = 0.6  # weight of lightness in distances; folds and shadows change it far more than the hue
_MOST_COLOURS = 4
_RADIUS = 14.0
_BINS = (4, 16, 16)


@dataclass(frozen=True)
class Colour:
    """One colour of a photo: its name, its mean in Lab, and its share of the product's weight, 0 to 1."""

    name: str
    lab: Floats
    share: float


def to_lab(rgb: NDArray[np.uint8]) -> Floats:
    """Convert sRGB (..., 3) to CIELAB, D65 (IEC 61966-2-1 and CIE 15)."""
    t = _LINEAR[rgb] @ _RGB_TO_WHITE
    f = np.where(t > 216 / 24389, np.cbrt(t), t * (24389 / 27 / 116) + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def distance(lab: Floats, other: Floats) -> Floats:
    """Return the Euclidean distance (...) of Lab colours (..., 3), with lightness weighted by `_LIGHTNESS`."""
    difference = (lab - other) * np.array([_LIGHTNESS, 1.0, 1.0], dtype=np.float32)
    return np.asarray(np.sqrt((difference**2).sum(axis=-1)), dtype=np.float32)


_NAMES = list(_PALETTE)
_NAMED = to_lab(np.array(list(_PALETTE.values()), dtype=np.uint8))


def name_colour(lab: Floats) -> str:
    """Return the name of the nearest palette colour."""
    return _NAMES[int(distance(_NAMED, lab).argmin())]


def main_colours(lab: Floats, weight: Floats) -> list[Colour]:
    """Return at most four colours of Lab pixels (n, 3), by descending share of their weight (n,).

    The fullest cell of a coarse Lab histogram takes all pixels near its mean, then the fullest cell of the remaining
    pixels, and so on. Colours with the same name are merged. The result is deterministic.
    """
    total, colours = float(weight.sum()), list[Colour]()
    left = np.ones(len(lab), dtype=bool)
    while total and len(colours) < _MOST_COLOURS and weight[left].sum() > 0.04 * total:
        centre = _find_peak(lab[left], weight[left])
        near = left & (distance(lab, centre) < _RADIUS)
        share = float(weight[near].sum())
        if share <= 0.0:
            break
        mean = np.average(lab[near], axis=0, weights=weight[near]).astype(np.float32)
        colours.append(Colour(name_colour(mean), mean, share / total))
        left &= ~near
    return _merge_names(colours)


def _find_peak(lab: Floats, weight: Floats) -> Floats:
    cells = ((lab + np.array([0, 128, 128])) // np.array([100 / _BINS[0], 256 / _BINS[1], 256 / _BINS[2]])).astype(int)
    flat = np.ravel_multi_index(tuple(cells.clip(0, np.array(_BINS) - 1).T), _BINS)
    inside = flat == np.bincount(flat, weights=weight).argmax()
    return np.average(lab[inside], axis=0, weights=weight[inside]).astype(np.float32)


def _merge_names(colours: list[Colour]) -> list[Colour]:
    merged: dict[str, Colour] = {}
    for colour in colours:
        known = merged.get(colour.name)
        lab, share = (known.lab, known.share + colour.share) if known else (colour.lab, colour.share)
        merged[colour.name] = Colour(colour.name, lab, share)
    return sorted(merged.values(), key=lambda colour: -colour.share)
