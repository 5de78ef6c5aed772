"""Drawn photos with known looks, in two series: one for training, and one that is held out for testing."""

import os
from functools import cache
from io import BytesIO
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from vlm4rec_search.captioning.captioners.tiny.architecture import TILE, TILES, new_image_processor
from vlm4rec_search.common.progress import bar
from vlm4rec_search.datasets.demo_shop.drawing import draw_photo
from vlm4rec_search.datasets.demo_shop.looks import MATERIALS_OF, Look, draw_look

if TYPE_CHECKING:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

TRAINING, HELD_OUT = 260312625, 260312626
"""Seeds of the two series. Each photo has its own random stream, which no shop uses unless it has the same seed."""


def draw_labelled_photo(series: int, number: int) -> tuple[Image.Image, Look]:
    """Draw photo `number` of a series and return it with its look.

    The photo has 256 x 256 RGB pixels and went through JPEG compression, like the files of a shop.
    """
    rng = np.random.default_rng([series, number])
    look = draw_look(str(rng.choice(list(MATERIALS_OF))), rng)
    jpeg = BytesIO()
    draw_photo(look, rng).save(jpeg, "JPEG", quality=88)
    return Image.open(jpeg).convert("RGB"), look


def draw_tiles(series: int, count: int) -> tuple[npt.NDArray[np.uint8], list[Look]]:
    """Draw the first `count` photos of a series on all cores, and cut them into tiles like the model's processor.

    Returns:
        Unscaled tiles (count, TILES, 3, TILE, TILE), and the looks.
    """
    tiles, looks = np.empty((count, TILES, 3, TILE, TILE), np.uint8), []
    numbers = [(series, number) for number in range(count)]
    # Spawned, not forked, because torch may already have started threads.
    with get_context("spawn").Pool(os.cpu_count()) as pool, bar("drawing photos", count) as advance:
        for position, (cut, look) in enumerate(pool.imap(_draw_and_cut, numbers, chunksize=50)):
            tiles[position] = cut
            looks.append(look)
            advance(1)
    return tiles, looks


def cut_tiles(photo: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the unscaled tiles (TILES, 3, TILE, TILE) of a square photo, cut like the model's processor does."""
    cut = _image_processor()(photo, do_rescale=False, do_normalize=False)
    return np.asarray(cut["pixel_values"][0], dtype=np.uint8)


@cache
def _image_processor() -> "LlavaNextImageProcessorPil":
    return new_image_processor()


def _draw_and_cut(series_and_number: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Look]:
    photo, look = draw_labelled_photo(*series_and_number)
    return cut_tiles(photo), look
