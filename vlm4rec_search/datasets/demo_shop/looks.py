"""How a product can look: the words for it, and the colours and patterns of each style."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

_GARMENT = ("denim", "knit", "linen", "leather", "silk")
_SOFT = ("denim", "knit", "linen", "leather")
_VESSEL = ("ceramic", "metal", "wood")
_FURNITURE = ("wood", "metal", "linen", "leather")
MATERIALS_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("dress", "shirt", "jacket", "trousers", "skirt"), _GARMENT),
    **dict.fromkeys(("sneaker", "tote", "backpack", "hat"), _SOFT),
    "cushion": _GARMENT,
    **dict.fromkeys(("mug", "vase"), _VESSEL),
    **dict.fromkeys(("lamp", "chair"), _FURNITURE),
}
"""The materials that each product (shape) comes in."""
STYLES = ("minimal", "romantic", "sporty", "vintage")
USES = ("office", "outdoor", "party")

COLOURS: dict[str, Colour] = {
    "white": (244, 243, 240),
    "black": (44, 44, 48),
    "grey": (142, 144, 148),
    "beige": (212, 194, 164),
    "navy": (36, 48, 88),
    "pink": (238, 152, 178),
    "lilac": (186, 150, 214),
    "cream": (248, 234, 206),
    "light blue": (156, 200, 236),
    "rose": (206, 92, 122),
    "red": (214, 40, 46),
    "blue": (30, 90, 204),
    "green": (60, 176, 74),
    "orange": (244, 126, 28),
    "yellow": (248, 212, 44),
    "mustard": (202, 154, 44),
    "brown": (124, 80, 50),
    "olive": (116, 120, 60),
    "burgundy": (120, 32, 50),
    "teal": (40, 114, 114),
}
_PALETTES: dict[str, tuple[str, ...]] = {
    "minimal": ("white", "black", "grey", "beige", "navy"),
    "romantic": ("pink", "lilac", "cream", "light blue", "rose"),
    "sporty": ("red", "blue", "green", "orange", "yellow"),
    "vintage": ("mustard", "brown", "olive", "burgundy", "teal"),
}
_SECOND: dict[str, tuple[str, ...]] = {
    "minimal": ("white", "black"),
    "romantic": ("white", "rose", "cream"),
    "sporty": ("white", "black", "navy"),
    "vintage": ("cream", "brown", "mustard"),
}
_PATTERNS: dict[str, tuple[str, ...]] = {
    "minimal": ("plain", "plain", "plain", "striped"),
    "romantic": ("floral", "floral", "dotted", "plain"),
    "sporty": ("striped", "striped", "plain", "dotted"),
    "vintage": ("checked", "checked", "dotted", "plain"),
}


@dataclass(frozen=True)
class Look:
    """Everything that the photo of one product shows."""

    shape: str
    style: str
    material: str
    use: str
    colour: str
    second_colour: str
    pattern: str


def draw_look(shape: str, rng: np.random.Generator) -> Look:
    """Draw a look for a product; colours and pattern follow the style."""
    style, use, material = (str(rng.choice(words)) for words in (STYLES, USES, MATERIALS_OF[shape]))
    colour = str(rng.choice(_PALETTES[style]))
    second = str(rng.choice([name for name in _SECOND[style] if _are_distinct(name, colour)]))
    return Look(shape, style, material, use, colour, second, str(rng.choice(_PATTERNS[style])))


def _are_distinct(first: str, second: str) -> bool:
    return sum(abs(a - b) for a, b in zip(COLOURS[first], COLOURS[second], strict=True)) > 120
