"""Product photos drawn with Pillow: twice the size, then halved, which smooths every edge."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vlm4rec_search.datasets.demo_shop.details import along, draw_props, draw_sparkles, draw_trim
from vlm4rec_search.datasets.demo_shop.looks import COLOURS, Colour, Look
from vlm4rec_search.datasets.demo_shop.outlines import SHAPES
from vlm4rec_search.datasets.demo_shop.shapes import Points, curve
from vlm4rec_search.datasets.demo_shop.textures import MATERIALS, TILE, Tile, pattern, relief

PHOTO = 256
SIZE = 2 * PHOTO
_LIGHT = np.linspace(1.06, 0.94, SIZE, dtype=np.float32)


@dataclass(frozen=True)
class Placement:
    """Where the unit square of a shape lies in the picture."""

    scale: float
    dx: float
    dy: float
    flipped: bool

    def points(self, knots: Points, closed: bool = True) -> list[tuple[float, float]]:
        """Return the pixels of a smooth curve through the knots."""
        path = (curve(knots, closed) - 0.5) * self.scale
        if self.flipped:
            path[:, 0] *= -1
        path += (0.5 + self.dx, 0.5 + self.dy)
        return [(x, y) for x, y in (path * SIZE).tolist()]


def draw_photo(look: Look, rng: np.random.Generator) -> Image.Image:
    """Draw an RGB photo of PHOTO x PHOTO pixels; `rng` moves, flips and lights it, none of which means anything."""
    dx, dy = rng.uniform(-0.02, 0.02, 2).tolist()
    place = Placement(rng.uniform(0.84, 0.96), dx, dy, bool(rng.integers(2)))
    shape = SHAPES[look.shape]
    body = _mask(place, shape.outlines)
    whole = ImageChops.lighter(body, _mask(place, shape.accents))
    canvas = _background(rng, whole)
    draw_props(canvas, look.use, rng)
    _strokes(canvas, look, place)
    canvas.paste(_surface(look, body, rng), mask=body)
    _fronts(canvas, look, place)
    draw_trim(canvas, look, whole, place.points(shape.outlines[0]), place.points((shape.trim,), closed=False)[0])
    if look.use == "party":
        draw_sparkles(canvas, whole, rng)
    return canvas.reduce(2)


def _mask(place: Placement, outlines: tuple[Points, ...]) -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(mask)
    for outline in outlines:
        draw.polygon(place.points(outline), fill=255)
    return mask


def _blurred(mask: Image.Image, radius: int) -> Image.Image:
    """Blur at an eighth of the size, which looks the same and costs far less."""
    small = mask.reduce(8).filter(ImageFilter.GaussianBlur(radius / 8))
    return small.resize(mask.size, Image.Resampling.BILINEAR)


def _background(rng: np.random.Generator, whole: Image.Image) -> Image.Image:
    paper = rng.uniform(212, 232) + rng.uniform(-5, 5, 3)
    canvas = Image.new("RGB", (SIZE, SIZE), tuple(int(level) for level in paper))
    canvas.paste(tuple(int(level) - 14 for level in paper), (0, int(0.78 * SIZE), SIZE, SIZE))
    canvas = canvas.reduce(8).filter(ImageFilter.GaussianBlur(4)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    shadow = ImageChops.offset(_blurred(whole, 20), 10, 18).point([level * 0.4 for level in range(256)])
    canvas.paste((96, 94, 98), mask=shadow)
    return canvas


def _surface(look: Look, body: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the picture of the material: colours and pattern, relief, volume, shine."""
    material = MATERIALS[look.material]
    left, top = rng.integers(0, TILE - SIZE, 2)
    tile = np.s_[top : top + SIZE, left : left + SIZE]
    edge = np.asarray(_blurred(body, 30), dtype=np.float32) / np.float32(255)
    light = (
        (0.7 + 0.32 * np.minimum(edge * 1.15, 1)) * _LIGHT[:, None] * (1 + material.depth * relief(look.material)[tile])
    )
    share = pattern(look.pattern)[tile][:, :, None]
    colours = _tinted(look.colour, look) * (1 - share) + _tinted(look.second_colour, look) * share
    pixels = colours * light[:, :, None] + (material.gloss * 150) * _shine(edge)[:, :, None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _tinted(name: str, look: Look) -> npt.NDArray[np.float32]:
    material = MATERIALS[look.material]
    mixed = (1 - material.tinted) * np.array(COLOURS[name]) + material.tinted * np.array(material.tint)
    return mixed.astype(np.float32)


def _shine(edge: Tile) -> Tile:
    """Light from the upper left: bright where the volume turns towards it."""
    slope = np.zeros_like(edge)
    slope[:, 12:] = edge[:, 12:] - edge[:, :-12]
    slope[12:] += edge[12:] - edge[:-12]
    return (slope * 4 - 0.3).clip(0, 1) * edge


def _strokes(canvas: Image.Image, look: Look, place: Placement) -> None:
    shape, draw = SHAPES[look.shape], ImageDraw.Draw(canvas)
    colour = _tinted(look.colour, look)
    width = int(shape.stroke_width * place.scale * SIZE)
    for knots in shape.strokes:
        path = place.points(knots, closed=False)
        draw.line(path, fill=_rgb(colour * 0.6), width=width, joint="curve")
        draw.line(path, fill=_rgb(colour * 0.85), width=width - 6, joint="curve")


def _fronts(canvas: Image.Image, look: Look, place: Placement) -> None:
    shape, draw = SHAPES[look.shape], ImageDraw.Draw(canvas)
    second, dark = _tinted(look.second_colour, look), _rgb(_tinted(look.colour, look) * 0.55)
    for knots in shape.accents:
        draw.polygon(place.points(knots), fill=_rgb(second * 0.92), outline=_rgb(second * 0.6), width=3)
    for knots in shape.openings:
        draw.polygon(place.points(knots), fill=dark)
    for knots in shape.seams:
        path = place.points(knots, closed=False)
        draw.line(path, fill=dark, width=4, joint="curve")
        if MATERIALS[look.material].stitched:
            _stitches(draw, path, (226, 176, 88))


def _stitches(draw: ImageDraw.ImageDraw, path: list[tuple[float, float]], colour: Colour) -> None:
    dots = along(path, 7.0)
    for start, end in zip(dots[::2], dots[1::2], strict=False):
        draw.line((start[0] + 7, start[1], end[0] + 7, end[1]), fill=colour, width=3)


def _rgb(levels: npt.NDArray[np.float32]) -> Colour:
    red, green, blue = (int(level) for level in levels.clip(0, 255))
    return red, green, blue
