"""Details that tell a style (trims on the product) and a use (props beside it)."""

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from vlm4rec_search.datasets.demo_shop.looks import COLOURS, Look

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
