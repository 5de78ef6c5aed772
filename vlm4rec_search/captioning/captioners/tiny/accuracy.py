"""Accuracy of a captioner on drawn photos: how often a caption names the attributes that the drawing shows."""

from collections.abc import Sequence

from PIL.Image import Image

from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.captioners.tiny.drawings import HELD_OUT, draw_labelled_photo
from vlm4rec_search.captioning.captioners.tiny.sentences import read_attributes, visible_attributes
from vlm4rec_search.common.progress import bar
from vlm4rec_search.datasets.demo_shop.looks import Look

TEST_PHOTOS = 1_000
"""The number of held-out drawings behind the accuracy in the model card."""


def draw_held_out(count: int) -> tuple[list[Image], list[Look]]:
    """Draw the first `count` photos (256 x 256 pixels) that no training uses, and return them with their looks."""
    drawings = []
    with bar("drawing photos to test on", count) as advance:
        for number in range(count):
            drawings.append(draw_labelled_photo(HELD_OUT, number))
            advance(1)
    return [photo for photo, _ in drawings], [look for _, look in drawings]


def caption_photos(captioner: Captioner, photos: Sequence[Image]) -> list[str]:
    """Return the caption of each photo without any catalogue text; "" for a photo without a caption."""
    prompt, size, captions = captioner.render(Context()), captioner.batch_size, []
    with bar(f"captions by {captioner.id}", len(photos)) as advance:
        for start in range(0, len(photos), size):
            batch = photos[start : start + size]
            captions += captioner.caption(batch, [prompt] * len(batch))
            advance(len(batch))
    return [caption.text if isinstance(caption, Caption) else "" for caption in captions]


def measure_accuracy(looks: Sequence[Look], captions: Sequence[str]) -> dict[str, float]:
    """Return, for each attribute, the share of captions that name the value of the look.

    The second colour counts only where a pattern shows it; `all of them` is the share of captions with every attribute
    right.
    """
    marks: dict[str, list[bool]] = {}
    for look, caption in zip(looks, captions, strict=True):
        shown, named = visible_attributes(look), read_attributes(caption)
        for name, value in shown.items():
            if value:
                marks.setdefault(name, []).append(named[name] == value)
        marks.setdefault("all of them", []).append(named == shown)
    return {name: sum(correct) / len(correct) for name, correct in marks.items()}
