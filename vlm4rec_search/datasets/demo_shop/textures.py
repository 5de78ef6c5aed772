"""Materials and patterns as grey-level tiles, drawn once and cropped at random for each photo."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Tile = npt.NDArray[np.float32]
"""Grey levels of shape (TILE, TILE)."""

TILE = 640
_Y, _X = np.mgrid[0:TILE, 0:TILE].astype(np.float32)


@dataclass(frozen=True)
class Material:
    """The look of a surface.

    `relief` draws heights in [-1, 1], which are multiplied by `depth`; `gloss` is the strength of the shine in [0, 1];
    the colour is mixed with `tint` by the share `tinted`; `stitched` is whether seams show stitches.
    """

    relief: Callable[[], Tile]
    depth: float
    gloss: float = 0.0
    tint: tuple[int, int, int] = (0, 0, 0)
    tinted: float = 0.0
    stitched: bool = False


def _level(values: npt.ArrayLike) -> Tile:
    return np.asarray(np.clip(values, -1, 1), dtype=np.float32)


def noise(across: int, down: int, seed: int) -> Tile:
    """Return smooth noise in about [-1, 1], interpolated from a grid of `across` x `down` random cells."""
    cells = np.random.default_rng(seed).uniform(-1, 1, (down, across)).astype(np.float32)
    return np.asarray(Image.fromarray(cells).resize((TILE, TILE), Image.Resampling.BICUBIC))


def _denim() -> Tile:
    twill = np.sin((_X + _Y) * (2 * np.pi / 9))
    return _level(0.6 * twill + 0.3 * noise(320, 320, 1) + 0.5 * noise(10, 5, 2))


def _knit() -> Tile:
    across = np.abs((_X % 26) - 13) / 13
    rows = ((_Y + 15 * across) % 17) / 17
    return _level(1.3 * np.sin(np.pi * rows) - 0.9 * (across < 0.1) - 0.7 * (across > 0.93) - 0.4)


def _linen() -> Tile:
    threads = 0.6 * noise(300, 24, 3) + 0.6 * noise(24, 300, 4)
    weave = 0.35 * np.sign(np.sin(_X * np.pi / 4) * np.sin(_Y * np.pi / 4))
    return _level(threads + weave)


def _leather() -> Tile:
    pores = np.abs(noise(75, 75, 5)) + 0.6 * np.abs(noise(150, 150, 6))
    return _level(1.6 * pores.clip(0, 0.5) - 0.5 + 0.3 * noise(6, 6, 7))


def _silk() -> Tile:
    bend = 40 * noise(4, 4, 8) + 25 * noise(3, 6, 9)
    return _level(np.sin((_X + 0.35 * _Y + bend) * (2 * np.pi / 120)))


def _wood() -> Tile:
    rings = np.sin((_X + 60 * noise(5, 2, 10) + 8 * noise(16, 4, 11)) * (2 * np.pi / 34))
    return _level(0.75 * rings + 0.35 * noise(320, 16, 12))


def _metal() -> Tile:
    shine = np.sin(_X * (2 * np.pi / 230)) ** 5
    return _level(0.9 * shine + 0.2 * noise(12, 320, 13))


def _ceramic() -> Tile:
    speckles = noise(160, 160, 14) > 0.72
    return _level(0.1 * noise(8, 8, 15) - 1.0 * speckles)


MATERIALS: dict[str, Material] = {
    "denim": Material(_denim, 0.22, tint=(52, 78, 128), tinted=0.35, stitched=True),
    "knit": Material(_knit, 0.26),
    "linen": Material(_linen, 0.2, tint=(214, 200, 170), tinted=0.15),
    "leather": Material(_leather, 0.26, gloss=0.5, tint=(96, 60, 40), tinted=0.2, stitched=True),
    "silk": Material(_silk, 0.2, gloss=0.25),
    "wood": Material(_wood, 0.22, tint=(158, 108, 62), tinted=0.6),
    "metal": Material(_metal, 0.35, gloss=0.35, tint=(164, 170, 178), tinted=0.55),
    "ceramic": Material(_ceramic, 0.22, gloss=0.85),
}


@cache
def relief(material: str) -> Tile:
    """Return the relief tile of a material."""
    return MATERIALS[material].relief()


def _ellipses(centres: list[tuple[float, float]], radius: float) -> Tile:
    tile = Image.new("L", (TILE, TILE))
    draw = ImageDraw.Draw(tile)
    for x, y in centres:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return _level(np.asarray(tile) / 255)


def _staggered(step: int) -> list[tuple[float, float]]:
    return [
        (x + (y // step % 2) * step / 2, y) for y in range(0, TILE + step, step) for x in range(0, TILE + step, step)
    ]


def _floral() -> Tile:
    turns = [2 * np.pi * petal / 5 for petal in range(5)]
    petals = [(x + 14 * np.cos(turn + y), y + 14 * np.sin(turn + y)) for x, y in _staggered(84) for turn in turns]
    leaves = [(x + 42, y + 8 * side) for x, y in _staggered(84) for side in (-1, 1)]
    blossoms = np.maximum(_ellipses(petals, 10.5), 0.55 * _ellipses(leaves, 6))
    return _level(blossoms * (1 - _ellipses(_staggered(84), 6)))


def _checked() -> Tile:
    return _level(0.5 * (_X % 72 < 30) + 0.5 * (_Y % 72 < 30))


PATTERNS: dict[str, Callable[[], Tile]] = {
    "plain": lambda: np.zeros((TILE, TILE), np.float32),
    "striped": lambda: _level(_Y % 54 < 22),
    "checked": _checked,
    "dotted": lambda: _ellipses(_staggered(52), 11),
    "floral": _floral,
}


@cache
def pattern(name: str) -> Tile:
    """Return the share of the second colour at each pixel of a pattern, in [0, 1]."""
    return PATTERNS[name]()
