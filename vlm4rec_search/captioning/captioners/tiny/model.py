"""The small model in two ONNX graphs, run by ONNX Runtime: one sees the photo, one writes a word at a time."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.Image import Image, Resampling

from vlm4rec_search.captioning.answers import Reply
from vlm4rec_search.captioning.captioners.tiny.architecture import HEADS, TEXT_LAYERS, TILE, WIDTH
from vlm4rec_search.embeddings.onnx import load_network

VISION, WRITER, TOKENIZER = "vision.onnx", "writer.onnx", "tokenizer.json"
_END = 3  # token


class TinyModel:
    """The networks and the tokenizer of a folder."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._vision, self._writer = load_network(folder / VISION), load_network(folder / WRITER)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))

    def answer(self, photos: Sequence[Image], tokens: int) -> list[Reply]:
        """Return the greedy answer to each RGB photo, of at most `tokens` new tokens."""
        start = time.monotonic()
        (prompt,) = self._vision.run(None, {"tiles": np.stack([cut_tiles(photo) for photo in photos])})
        past = np.zeros((TEXT_LAYERS, 2, len(photos), HEADS, 0, WIDTH // HEADS), dtype=np.float32)
        written: list[NDArray[np.int64]] = []
        new, ended = prompt, np.zeros(len(photos), dtype=bool)
        while len(written) < tokens and not ended.all():
            token, new, past = self._writer.run(None, {"x": new, "past": past})
            written.append(token)
            ended |= token == _END
        share = (time.monotonic() - start) / len(photos)
        return [self._reply(row.tolist(), prompt.shape[1], share) for row in np.stack(written, axis=1)]

    def _reply(self, row: list[int], sent: int, seconds: float) -> Reply:
        length = row.index(_END) + 1 if _END in row else len(row)
        return Reply(self._tokenizer.decode(row[:length]), sent, length, seconds, cut_off=_END not in row)


def cut_tiles(photo: Image) -> NDArray[np.float32]:
    """Return the tiles (TILES, 3, TILE, TILE) of a photo: the whole, then its quarters, with values from -1 to 1.

    A photo that is not square is padded with white. The model was trained on square ones.
    """
    side = max(photo.size)
    square = ImageOps.pad(photo, (side, side), color="white")
    whole = square.resize((TILE, TILE), Resampling.BICUBIC)
    large = square.resize((2 * TILE, 2 * TILE), Resampling.BICUBIC)
    corners = [(left, top) for top in (0, TILE) for left in (0, TILE)]
    parts = [whole, *(large.crop((left, top, left + TILE, top + TILE)) for left, top in corners)]
    pixels = np.stack([np.asarray(part, dtype=np.float32) for part in parts])
    return pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1
