"""How often a captioner says what a drawn photo shows."""

from collections.abc import Sequence

from PIL.Image import Image

from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.captioners.tiny.drawings import HELD_OUT, draw_one
from vlm4rec_search.captioning.captioners.tiny.sentences import attributes, read_attributes
from vlm4rec_search.common.progress import bar
from vlm4rec_search.datasets.demo_shop.looks import Look

PHOTOS = 1_000


def held_out(count: int) -> tuple[list[Image], list[Look]]:
    """Draw the first `count` photos that no training sees, 256 x 256 pixels, and what they show."""
    with bar("drawing photos to test on", count) as advance:
        drawn = []
        for number in range(count):
            drawn.append(draw_one(HELD_OUT, number))
            advance(1)
    return [photo for photo, _ in drawn], [look for _, look in drawn]


def captions_of(captioner: Captioner, photos: Sequence[Image]) -> list[str]:
    """Return the caption of each photo, told nothing else about it; "" where it has none."""
    prompt, size, captions = captioner.render(Context()), captioner.batch_size, []
    with bar(f"captions by {captioner.id}", len(photos)) as advance:
        for start in range(0, len(photos), size):
            batch = photos[start : start + size]
            captions += captioner.caption(batch, [prompt] * len(batch))
            advance(len(batch))
    return [caption.text if isinstance(caption, Caption) else "" for caption in captions]


def accuracy(looks: Sequence[Look], captions: Sequence[str]) -> dict[str, float]:
    """Return, for each attribute, the share of captions that name what the look shows.

    The second colour counts only where a pattern shows it; `all of them` is the share with every attribute right.
    """
    right: dict[str, list[bool]] = {}
    for look, caption in zip(looks, captions, strict=True):
        shown, said = attributes(look), read_attributes(caption)
        for name, value in shown.items():
            if value:
                right.setdefault(name, []).append(said[name] == value)
        right.setdefault("all of them", []).append(said == shown)
    return {name: sum(marks) / len(marks) for name, marks in right.items()}
