"""Draws product photos with Pillow, at twice the size and then halved, which smooths every edge.

From back to front a photo has the background with the product's shadow, props that show the use, the product itself
(straps and legs, body, accents, openings, seams), and trims that show the style.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vlm4rec_search.datasets.demo_shop.looks import COLOURS, Colour, Look
from vlm4rec_search.datasets.demo_shop.outlines import SHAPES, Points, curve
from vlm4rec_search.datasets.demo_shop.textures import MATERIALS, TILE, Tile, pattern, relief

Point = tuple[float, float]
Pixels = list[Point]
"""Points (x, y) of a path on the canvas."""

PHOTO = 256
"""Width and height of a photo in pixels."""
SIZE = 2 * PHOTO
"""Width and height of the canvas on which a photo is drawn."""
_LIGHT = np.linspace(1.06, 0.94, SIZE, dtype=np.float32)  # from the top to the bottom


@dataclass(frozen=True)
class Placement:
    """Where the unit square of a shape lies on the canvas."""

    scale: float
    dx: float
    dy: float
    flipped: bool

    def points(self, knots: Points, closed: bool = True) -> Pixels:
        """Return the pixels of a smooth curve through the knots."""
        path = (curve(knots, closed) - 0.5) * self.scale
        if self.flipped:
            path[:, 0] *= -1
        path += (0.5 + self.dx, 0.5 + self.dy)
        return [(x, y) for x, y in (path * SIZE).tolist()]


def draw_photo(look: Look, rng: np.random.Generator) -> Image.Image:
    """Draw an RGB photo of PHOTO x PHOTO pixels; `rng` varies position, direction and light."""
    dx, dy = rng.uniform(-0.02, 0.02, 2).tolist()
    placement = Placement(rng.uniform(0.84, 0.96), dx, dy, bool(rng.integers(2)))
    shape = SHAPES[look.shape]
    body = _draw_mask(placement, shape.outlines)
    silhouette = ImageChops.lighter(body, _draw_mask(placement, shape.accents))
    canvas = _draw_background(rng, silhouette)
    _draw_props(canvas, look.use, rng)
    _draw_strokes(canvas, look, placement)
    canvas.paste(_draw_surface(look, body, rng), mask=body)
    _draw_fronts(canvas, look, placement)
    _draw_trim(
        canvas, look, silhouette, placement.points(shape.outlines[0]), placement.points((shape.trim,), closed=False)[0]
    )
    if look.use == "party":
        _draw_sparkles(canvas, silhouette, rng)
    return canvas.reduce(2)


def _draw_mask(placement: Placement, outlines: tuple[Points, ...]) -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(mask)
    for outline in outlines:
        draw.polygon(placement.points(outline), fill=255)
    return mask


def _blur(mask: Image.Image, radius: int) -> Image.Image:
    """Blur at an eighth of the size, which looks the same and costs far less."""
    small = mask.reduce(8).filter(ImageFilter.GaussianBlur(radius / 8))
    return small.resize(mask.size, Image.Resampling.BILINEAR)


def _draw_background(rng: np.random.Generator, silhouette: Image.Image) -> Image.Image:
    paper = rng.uniform(212, 232) + rng.uniform(-5, 5, 3)
    canvas = Image.new("RGB", (SIZE, SIZE), tuple(int(level) for level in paper))
    canvas.paste(tuple(int(level) - 14 for level in paper), (0, int(0.78 * SIZE), SIZE, SIZE))
    canvas = canvas.reduce(8).filter(ImageFilter.GaussianBlur(4)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    shadow = ImageChops.offset(_blur(silhouette, 20), 10, 18).point([level * 0.4 for level in range(256)])
    canvas.paste((96, 94, 98), mask=shadow)
    return canvas


def _draw_surface(look: Look, body: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Draw the material over the whole canvas: colours and pattern, relief, volume, shine."""
    material = MATERIALS[look.material]
    left, top = rng.integers(0, TILE - SIZE, 2)
    tile = np.s_[top : top + SIZE, left : left + SIZE]
    edge = np.asarray(_blur(body, 30), dtype=np.float32) / np.float32(255)
    light = (
        (0.7 + 0.32 * np.minimum(edge * 1.15, 1)) * _LIGHT[:, None] * (1 + material.depth * relief(look.material)[tile])
    )
    share = pattern(look.pattern)[tile][:, :, None]
    colours = _tint(look.colour, look) * (1 - share) + _tint(look.second_colour, look) * share
    pixels = colours * light[:, :, None] + (material.gloss * 150) * _draw_shine(edge)[:, :, None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _tint(name: str, look: Look) -> npt.NDArray[np.float32]:
    material = MATERIALS[look.material]
    mixed = (1 - material.tinted) * np.array(COLOURS[name]) + material.tinted * np.array(material.tint)
    return mixed.astype(np.float32)


def _draw_shine(edge: Tile) -> Tile:
    """Return the shine of light from the upper left, in [0, 1], for a volume that rises with `edge`."""
    slope = np.zeros_like(edge)
    slope[:, 12:] = edge[:, 12:] - edge[:, :-12]
    slope[12:] += edge[12:] - edge[:-12]
    return (slope * 4 - 0.3).clip(0, 1) * edge


def _draw_strokes(canvas: Image.Image, look: Look, placement: Placement) -> None:
    shape, draw = SHAPES[look.shape], ImageDraw.Draw(canvas)
    colour = _tint(look.colour, look)
    width = int(shape.stroke_width * placement.scale * SIZE)
    for knots in shape.strokes:
        path = placement.points(knots, closed=False)
        draw.line(path, fill=_rgb(colour * 0.6), width=width, joint="curve")
        draw.line(path, fill=_rgb(colour * 0.85), width=width - 6, joint="curve")


def _draw_fronts(canvas: Image.Image, look: Look, placement: Placement) -> None:
    shape, draw = SHAPES[look.shape], ImageDraw.Draw(canvas)
    second, dark = _tint(look.second_colour, look), _rgb(_tint(look.colour, look) * 0.55)
    for knots in shape.accents:
        draw.polygon(placement.points(knots), fill=_rgb(second * 0.92), outline=_rgb(second * 0.6), width=3)
    for knots in shape.openings:
        draw.polygon(placement.points(knots), fill=dark)
    for knots in shape.seams:
        path = placement.points(knots, closed=False)
        draw.line(path, fill=dark, width=4, joint="curve")
        if MATERIALS[look.material].stitched:
            _draw_stitches(draw, path, (226, 176, 88))


def _draw_stitches(draw: ImageDraw.ImageDraw, path: Pixels, colour: Colour) -> None:
    dots = _points_along(path, 7.0)
    for start, end in zip(dots[::2], dots[1::2], strict=False):
        draw.line((start[0] + 7, start[1], end[0] + 7, end[1]), fill=colour, width=3)


def _rgb(levels: npt.NDArray[np.float32]) -> Colour:
    red, green, blue = (int(level) for level in levels.clip(0, 255))
    return red, green, blue


def _draw_props(canvas: Image.Image, use: str, rng: np.random.Generator) -> None:
    """Draw what lies around the product: leaves outdoors, confetti at a party, pencil and paper in the office."""
    draw = ImageDraw.Draw(canvas)
    {"outdoor": _draw_leaves, "party": _draw_confetti, "office": _draw_desk}[use](draw, canvas.width, rng)


def _draw_leaves(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    for side in (0, size):
        for _ in range(9):
            x, y = abs(side - rng.uniform(0, 110)), size - rng.uniform(0, 90)
            turn, length = rng.uniform(-2.6, -0.5), rng.uniform(46, 80)
            tip = (x + length * np.cos(turn), y + length * np.sin(turn))
            across = (-np.sin(turn) * length * 0.2, np.cos(turn) * length * 0.2)
            middle = ((x + tip[0]) / 2, (y + tip[1]) / 2)
            sides = [(middle[0] + way * across[0], middle[1] + way * across[1]) for way in (1, -1)]
            draw.polygon([(x, y), sides[0], tip, sides[1]], fill=(58, int(rng.uniform(110, 160)), 62))


def _draw_confetti(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    colours = [COLOURS[name] for name in ("pink", "yellow", "light blue", "orange", "lilac")]
    for _ in range(70):
        x, y, radius = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(4, 8)
        draw.rectangle((x - radius, y - radius / 2, x + radius, y + radius), fill=colours[rng.integers(len(colours))])


def _draw_desk(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    left = rng.uniform(8, 20)
    draw.polygon(
        [(left, size - 84), (left + 120, size - 96), (left + 132, size - 16), (left + 6, size - 6)],
        fill=(250, 250, 250),
    )
    for line in range(4):
        y = size - 76 + 16 * line
        draw.line((left + 14, y, left + 112, y - 9), fill=(150, 170, 205), width=3)
    draw.line((size - 120, size - 20, size - 18, size - 88), fill=(236, 182, 40), width=13)
    draw.line((size - 120, size - 20, size - 134, size - 11), fill=(60, 50, 46), width=7)


def _draw_trim(canvas: Image.Image, look: Look, silhouette: Image.Image, outline: Pixels, spot: Point) -> None:
    """Draw the trims of a style on the product; the style minimal has none."""
    if look.style == "romantic":
        _draw_lace(canvas, outline)
        _draw_bow(canvas, spot)
    elif look.style == "sporty":
        _draw_racing_stripes(canvas, look, silhouette, spot)
    elif look.style == "vintage":
        _draw_buttons(canvas, silhouette, spot)


def _draw_lace(canvas: Image.Image, outline: Pixels) -> None:
    draw = ImageDraw.Draw(canvas)
    scallops = _points_along([*outline, outline[0]], 15)
    for x, y in scallops:
        _draw_disc(draw, x, y, 9, (252, 246, 240))
    for x, y in scallops:
        _draw_disc(draw, x, y, 3.5, (226, 178, 190))


def _draw_bow(canvas: Image.Image, spot: Point) -> None:
    draw, (x, y), ribbon = ImageDraw.Draw(canvas), spot, (224, 74, 122)
    for side in (-1, 1):
        draw.polygon([(x, y), (x + 12 * side, y + 46), (x + 26 * side, y + 40)], fill=(190, 52, 98))
        draw.polygon([(x, y), (x + 42 * side, y - 22), (x + 46 * side, y + 16)], fill=ribbon)
    _draw_disc(draw, x, y, 9, (190, 52, 98))


def _draw_racing_stripes(canvas: Image.Image, look: Look, silhouette: Image.Image, spot: Point) -> None:
    band = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(band)
    for shift in (-34, 0, 34):
        x = spot[0] + shift
        draw.line((x - 300, spot[1] + 360, x + 300, spot[1] - 360), fill=255, width=17)
    canvas.paste(
        COLOURS["black" if look.second_colour == "white" else "white"], mask=ImageChops.multiply(band, silhouette)
    )


def _draw_buttons(canvas: Image.Image, silhouette: Image.Image, spot: Point) -> None:
    yellowed = Image.new("L", canvas.size, 46)
    canvas.paste((170, 118, 60), mask=ImageChops.multiply(yellowed, silhouette))
    draw, (x, y) = ImageDraw.Draw(canvas), spot
    for row in range(3):
        centre = y + 40 * (row - 1)
        _draw_disc(draw, x, centre, 15, (92, 60, 34))
        _draw_disc(draw, x, centre, 12, (204, 164, 96))
        for hole in (-4, 4):
            _draw_disc(draw, x + hole, centre, 2.5, (92, 60, 34))


def _draw_sparkles(canvas: Image.Image, silhouette: Image.Image, rng: np.random.Generator) -> None:
    stars = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(stars)
    for x, y, radius in zip(*rng.uniform(0, canvas.width, (2, 60)), rng.uniform(7, 16, 60), strict=True):
        thin = radius / 5
        draw.polygon([(x - radius, y), (x, y - thin), (x + radius, y), (x, y + thin)], fill=255)
        draw.polygon([(x, y - radius), (x - thin, y), (x, y + radius), (x + thin, y)], fill=255)
    canvas.paste((255, 250, 214), mask=ImageChops.multiply(stars, silhouette))


def _draw_disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple[int, int, int]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _points_along(path: Pixels, step: float) -> Pixels:
    """Return points along a polyline, `step` pixels apart."""
    knots = np.array(path)
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(knots, axis=0).T))])
    marks = np.arange(0, lengths[-1], step)
    return [
        (float(np.interp(mark, lengths, knots[:, 0])), float(np.interp(mark, lengths, knots[:, 1]))) for mark in marks
    ]
