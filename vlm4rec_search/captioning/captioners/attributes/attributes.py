"""The offline captioner: measures a photo and puts the measurements into a sentence. It recognises no objects."""

import re
from collections.abc import Sequence

import numpy as np
from PIL.Image import Image
from scipy import ndimage

from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.captioners.attributes.colours import Colour, Floats, Mask, main_colours
from vlm4rec_search.captioning.captioners.attributes.figure import Figure, cut_out, describe_outline
from vlm4rec_search.captioning.captioners.attributes.patterns import Layout, lay_out, name_pattern
from vlm4rec_search.captioning.captioners.attributes.surfaces import Surface, measure_surface
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings

_SECOND_SHARE = 0.1
"""The smallest share of the product at which the second colour is named with the first."""
_TOUCH_SHARE = 0.06
_NAMES_LIGHTNESS = re.compile("light|dark|pale|black|white|grey|charcoal|navy|cream|burgundy|plum|peach|mint")


class AttributeCaptioner(Captioner):
    """Measures colours, pattern, surface and outline. Of the catalogue text it uses the category only.

    It knows no objects, materials or styles: "finely lined" is a texture, not denim. Photos are measured at 256 pixels.
    A plain background is assumed, and skin counts little, because people may wear the product.
    """

    id = "attributes@3"
    prompt = "category-1"
    understands = False

    def render(self, context: Context) -> str:
        """Return the last part of the category, such as `tees` of `Men/Tops/Tees`; the title is ignored."""
        last = re.split(r"[/>|]", context.category)[-1]
        return " ".join(last.lower().split())[:60]

    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        return [Caption(_describe(photo, category)) for photo, category in zip(photos, prompts, strict=True)]


def make(argument: str, settings: Settings) -> AttributeCaptioner:
    """Return the captioner, which has no options.

    Raises:
        UsageError: an argument was given.
    """
    if argument:
        raise UsageError(f"the captioner attributes takes no argument, not {argument!r}")
    return AttributeCaptioner()


def _describe(photo: Image, category: str) -> str:
    figure = cut_out(photo)
    lab = figure.lab[figure.mask]
    colours = main_colours(
        lab, figure.weight[figure.mask] * np.where(_find_skin(lab), np.float32(0.3), np.float32(1.0))
    )
    two = len(colours) > 1 and colours[1].share >= _SECOND_SHARE
    layout = lay_out(figure, colours[0], colours[1]) if two else None
    item = f"item ({category})" if category else "item"
    words = (
        f"{_name_tone(colours[0])}{_name_colours(colours)} {item}, {_describe_pattern(layout)}{_name_touches(colours)}"
    )
    article = "An" if words[0] in "aeiou" else "A"
    surface = _name_surface(measure_surface(figure, _find_calm_pixels(figure, layout)))
    return f"{article} {words}; {surface} surface; {describe_outline(figure.mask)}."


def _find_skin(lab: Floats) -> Mask:
    """Return the pixels with the colour of skin: skin of any shade lies in a narrow band of hue and chroma."""
    light, a, b = lab[..., 0], lab[..., 1], lab[..., 2]
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a))
    return np.asarray((light > 20) & (light < 90) & (chroma > 12) & (chroma < 42) & (hue > 32) & (hue < 72))


def _name_tone(colour: Colour) -> str:
    """Return a word for lightness or chroma and a space, or "" if the colour's name already implies it."""
    light, chroma = float(colour.lab[0]), float(np.hypot(colour.lab[1], colour.lab[2]))
    if chroma > 52:
        return "vivid "
    if chroma < 8 or _NAMES_LIGHTNESS.search(colour.name):
        return ""
    if light > 78:
        return "pale "
    return "dark " if light < 36 else "muted " if chroma < 30 else ""


def _name_colours(colours: list[Colour]) -> str:
    two = len(colours) > 1 and colours[1].share >= _SECOND_SHARE
    return f"{colours[0].name} and {colours[1].name}" if two else colours[0].name


def _name_touches(colours: list[Colour]) -> str:
    first = 2 if len(colours) > 1 and colours[1].share >= _SECOND_SHARE else 1
    names = [colour.name for colour in colours[first:] if colour.share >= _TOUCH_SHARE]
    return f", touches of {' and '.join(names)}" if names else ""


_PATTERNS = {
    "dots": "with dots",
    "checks": "in checks",
    "motifs": "with small motifs",
    "blocks": "in blocks of colour",
    "details": "with contrasting details",
}


def _describe_pattern(layout: Layout | None) -> str:
    if layout is None:
        return "plain"
    name = name_pattern(layout)
    return _PATTERNS.get(name, f"with {name}")


def _find_calm_pixels(figure: Figure, layout: Layout | None) -> Mask:
    """Return the inner pixels away from the edges of the pattern, or all inner pixels if fewer than 300 remain."""
    inner = np.asarray(ndimage.binary_erosion(figure.mask, iterations=4))
    if layout is not None:
        edges = ndimage.gaussian_gradient_magnitude(layout.share, 1.0) > 0.06
        calm = inner & ~ndimage.binary_dilation(edges, iterations=2)
        if calm.sum() >= 300:
            return np.asarray(calm)
    return inner if inner.any() else figure.mask


def _name_surface(surface: Surface) -> str:
    """Return words for texture and finish.

    Thresholds are in L* at 256 pixels, chosen by eye on drawn textures and on studio photos of clothes.
    """
    finish = "glossy" if surface.gloss > 0.06 else "softly shaded" if surface.rough[3] > 3.8 else "matte"
    return f"{_name_texture(surface)} {finish}"


def _name_texture(surface: Surface) -> str:
    finest, fine, middle, _ = surface.rough
    if finest > 1.6 and surface.coherence[0] > 0.3:
        return f"finely lined ({_name_direction(surface.angle[0])})"
    if fine > 1.9 and fine > finest:
        return "coarsely textured"
    if finest > 1.5:
        return "finely textured"
    if fine > 1.3:
        return f"streaked ({_name_direction(surface.angle[1])})" if surface.coherence[1] > 0.3 else "grainy"
    if middle > 2.4:
        return "smooth, gently folded"
    return "faintly textured" if finest > 0.55 or fine > 0.75 else "smooth"


def _name_direction(angle: float) -> str:
    if 25 <= angle <= 65:
        return "rising diagonal"
    if 115 <= angle <= 155:
        return "falling diagonal"
    return "vertical" if 65 < angle < 115 else "horizontal"
