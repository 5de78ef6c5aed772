"""Drawn photos with known looks: as many as wanted to train on, and others that are held out."""

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
"""Seeds of the two series. Each photo has a stream of its own, which no shop of another seed draws from."""


def draw_one(series: int, number: int) -> tuple[Image.Image, Look]:
    """Draw photo `number` of a series as a shop keeps it: 256 x 256 RGB pixels, once through JPEG."""
    rng = np.random.default_rng([series, number])
    look = draw_look(str(rng.choice(list(MATERIALS_OF))), rng)
    kept = BytesIO()
    draw_photo(look, rng).save(kept, "JPEG", quality=88)
    return Image.open(kept).convert("RGB"), look


def draw_tiles(series: int, count: int) -> tuple[npt.NDArray[np.uint8], list[Look]]:
    """Draw the first `count` photos of a series, on every core, and cut them up as the model's processor does.

    Returns:
        Tiles (count, TILES, 3, TILE, TILE), before scaling, and the looks.
    """
    tiles, looks = np.empty((count, TILES, 3, TILE, TILE), np.uint8), []
    numbers = [(series, number) for number in range(count)]
    # Not forked: torch may have threads by now.
    with get_context("spawn").Pool(os.cpu_count()) as pool, bar("drawing photos", count) as advance:
        for place, (tiled, look) in enumerate(pool.imap(_draw_tiled, numbers, chunksize=50)):
            tiles[place] = tiled
            looks.append(look)
            advance(1)
    return tiles, looks


def cut_up(photo: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the tiles (TILES, 3, TILE, TILE) of a square photo as the model's processor cuts them, before scaling."""
    cut = _image_processor()(photo, do_rescale=False, do_normalize=False)
    return np.asarray(cut["pixel_values"][0], dtype=np.uint8)


@cache
def _image_processor() -> "LlavaNextImageProcessorPil":
    return new_image_processor()


def _draw_tiled(asked: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Look]:
    photo, look = draw_one(*asked)
    return cut_up(photo), look
