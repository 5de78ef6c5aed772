"""A drawn picture that shows whether a served model sees photos at all: a blind one describes the title instead."""

import random
import re
from itertools import combinations

from PIL import Image

SIDE = 336
QUESTION = "Which two colours does this picture have? Answer with their names only."
COLOURS = {
    "red": (220, 20, 30),
    "green": (20, 150, 50),
    "blue": (25, 60, 210),
    "yellow": (250, 220, 30),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}
Pair = tuple[str, str]


def draw_pairs(count: int) -> list[Pair]:
    """Return different pairs of names of colours, drawn at random, so that a fixed answer is not right by chance."""
    return random.sample([*combinations(COLOURS, 2)], count)


def draw_picture(pair: Pair) -> Image.Image:
    """Return a picture whose upper half has the first colour and whose lower half has the second."""
    picture = Image.new("RGB", (SIDE, SIDE), COLOURS[pair[0]])
    picture.paste(COLOURS[pair[1]], (0, SIDE // 2, SIDE, SIDE))
    return picture


def named_colours(answer: str) -> set[str]:
    """Return the colours that an answer names."""
    return {colour for colour in COLOURS if re.search(rf"\b{colour}\b", answer, re.IGNORECASE)}


def is_seen(pair: Pair, answer: str) -> bool:
    """Return whether an answer names both colours of a picture, and not just every colour."""
    return set(pair) <= named_colours(answer) and len(named_colours(answer)) <= 3
