"""Product photos drawn with Pillow: twice the size, then halved, which smooths every edge."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vlm4rec_search.datasets.demo_shop.looks import COLOURS, Colour, Look
from vlm4rec_search.datasets.demo_shop.outlines import SHAPES, Points, curve
from vlm4rec_search.datasets.demo_shop.textures import MATERIALS, TILE, Tile, pattern, relief

# Details that tell a style (trims on the product) and a use (props beside it).

Pixels = list[tuple[float, float]]


def along(path: Pixels, step: float) -> Pixels:
    """Return points at equal distances (pixels) along a polyline."""
    knots = np.array(path)
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(knots, axis=0).T))])
    marks = np.arange(0, lengths[-1], step)
    return [
        (float(np.interp(mark, lengths, knots[:, 0])), float(np.interp(mark, lengths, knots[:, 1]))) for mark in marks
    ]


def draw_trim(canvas: Image.Image, look: Look, whole: Image.Image, outline: Pixels, spot: tuple[float, float]) -> None:
    """Add what the style brings; minimal brings nothing."""
    if look.style == "romantic":
        _lace(canvas, outline)
        _bow(canvas, spot)
    elif look.style == "sporty":
        _racing_stripes(canvas, look, whole, spot)
    elif look.style == "vintage":
        _buttons(canvas, whole, spot)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple[int, int, int]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _lace(canvas: Image.Image, outline: Pixels) -> None:
    draw = ImageDraw.Draw(canvas)
    scallops = along([*outline, outline[0]], 15)
    for x, y in scallops:
        _disc(draw, x, y, 9, (252, 246, 240))
    for x, y in scallops:
        _disc(draw, x, y, 3.5, (226, 178, 190))


def _bow(canvas: Image.Image, spot: tuple[float, float]) -> None:
    draw, (x, y), ribbon = ImageDraw.Draw(canvas), spot, (224, 74, 122)
    for side in (-1, 1):
        draw.polygon([(x, y), (x + 12 * side, y + 46), (x + 26 * side, y + 40)], fill=(190, 52, 98))
        draw.polygon([(x, y), (x + 42 * side, y - 22), (x + 46 * side, y + 16)], fill=ribbon)
    _disc(draw, x, y, 9, (190, 52, 98))


def _racing_stripes(canvas: Image.Image, look: Look, whole: Image.Image, spot: tuple[float, float]) -> None:
    band = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(band)
    for shift in (-34, 0, 34):
        x = spot[0] + shift
        draw.line((x - 300, spot[1] + 360, x + 300, spot[1] - 360), fill=255, width=17)
    canvas.paste(COLOURS["black" if look.second_colour == "white" else "white"], mask=ImageChops.multiply(band, whole))


def _buttons(canvas: Image.Image, whole: Image.Image, spot: tuple[float, float]) -> None:
    yellowed = Image.new("L", canvas.size, 46)
    canvas.paste((170, 118, 60), mask=ImageChops.multiply(yellowed, whole))
    draw, (x, y) = ImageDraw.Draw(canvas), spot
    for row in range(3):
        centre = y + 40 * (row - 1)
        _disc(draw, x, centre, 15, (92, 60, 34))
        _disc(draw, x, centre, 12, (204, 164, 96))
        for hole in (-4, 4):
            _disc(draw, x + hole, centre, 2.5, (92, 60, 34))


def draw_props(canvas: Image.Image, use: str, rng: np.random.Generator) -> None:
    """Add what lies around: leaves outdoors, confetti at a party, pencil and paper in the office."""
    draw = ImageDraw.Draw(canvas)
    {"outdoor": _leaves, "party": _confetti, "office": _desk}[use](draw, canvas.width, rng)


def _leaves(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    for side in (0, size):
        for _ in range(9):
            x, y = abs(side - rng.uniform(0, 110)), size - rng.uniform(0, 90)
            turn, length = rng.uniform(-2.6, -0.5), rng.uniform(46, 80)
            tip = (x + length * np.cos(turn), y + length * np.sin(turn))
            across = (-np.sin(turn) * length * 0.2, np.cos(turn) * length * 0.2)
            middle = ((x + tip[0]) / 2, (y + tip[1]) / 2)
            sides = [(middle[0] + way * across[0], middle[1] + way * across[1]) for way in (1, -1)]
            draw.polygon([(x, y), sides[0], tip, sides[1]], fill=(58, int(rng.uniform(110, 160)), 62))


def _confetti(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    colours = [COLOURS[name] for name in ("pink", "yellow", "light blue", "orange", "lilac")]
    for _ in range(70):
        x, y, radius = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(4, 8)
        draw.rectangle((x - radius, y - radius / 2, x + radius, y + radius), fill=colours[rng.integers(len(colours))])


def _desk(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
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


def draw_sparkles(canvas: Image.Image, whole: Image.Image, rng: np.random.Generator) -> None:
    """Scatter sequins that glitter over the product."""
    stars = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(stars)
    for x, y, radius in zip(*rng.uniform(0, canvas.width, (2, 60)), rng.uniform(7, 16, 60), strict=True):
        thin = radius / 5
        draw.polygon([(x - radius, y), (x, y - thin), (x + radius, y), (x, y + thin)], fill=255)
        draw.polygon([(x, y - radius), (x - thin, y), (x, y + radius), (x + thin, y)], fill=255)
    canvas.paste((255, 250, 214), mask=ImageChops.multiply(stars, whole))


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
