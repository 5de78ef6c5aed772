"""Every kind of bad photo gets a caption row with a clear status."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.photo_bytes import encoded
from PIL import Image

from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.table import caption_items
from vlm4rec_search.common.cache import FillPolicy
from vlm4rec_search.datasets.photos.locate import FetchPolicy

RED = (200, 30, 30)


class SizeAndColourCaptioner(Captioner):
    """Describes a photo by its size and mean colour."""

    id, prompt = "seen@1", "none-1"

    def render(self, context: Context) -> str:
        return ""

    def caption(self, photos: Sequence[Image.Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        return [Caption(f"Size {photo.width} {photo.height}, {_mean(photo)}.") for photo in photos]


def _mean(photo: Image.Image) -> str:
    red, green, blue = np.asarray(photo).reshape(-1, 3).mean(axis=0)
    return "red" if red > 150 and max(green, blue) < 80 else "grey" if abs(red - blue) < 9 else "other"


def header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""
    body = b""
    for kind, data in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IEND", b"")):
        body += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + body


def rotated() -> bytes:
    image = Image.new("RGB", (40, 20), RED)
    exif = image.getexif()
    exif[0x0112] = 6  # upright after a turn by 90 degrees
    return encoded(image, "JPEG", exif=exif)


PLAIN = Image.new("RGB", (40, 20), RED)
GRADIENT = Image.fromarray(np.linspace(0, 65535, 800).reshape(20, 40).astype(np.uint16))
FILES = {
    "truncated.jpg": encoded(Image.effect_noise((300, 300), 50), "JPEG")[:3000],
    "empty.jpg": b"",
    "huge.png": header(30_000, 30_000),
    "still.gif": encoded(PLAIN, "GIF"),
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "page.jpg": b"<!doctype html><html><body>Not found</body></html>",
    "deep.png": encoded(GRADIENT, "PNG"),
    "print.jpg": encoded(Image.new("CMYK", (40, 20), (0, 255, 255, 0)), "JPEG"),
    "turned.jpg": rotated(),
}
EXPECTED: dict[str, tuple[str, str]] = {  # status, and the caption or a part of the reason
    "truncated.jpg": ("unreadable", "damaged or cut off"),
    "empty.jpg": ("unreadable", "the file is empty"),
    "huge.png": ("too_large", "decompression bomb"),
    "still.gif": ("ok", "Size 40 20, red."),
    "drawing.svg": ("wrong_type", "not one of JPEG, PNG"),
    "page.jpg": ("wrong_type", "not one of JPEG, PNG"),
    "deep.png": ("ok", "Size 40 20, grey."),
    "print.jpg": ("ok", "Size 40 20, red."),
    "turned.jpg": ("ok", "Size 20 40, red."),
    "../outside.jpg": ("outside", "leaves the data folder"),
    "link.jpg": ("outside", "leaves the data folder"),
    "absent.jpg": ("missing", "no such file"),
    "http://127.0.0.1:9/a.jpg": ("blocked", "inside a network"),
    "http://169.254.169.254/latest": ("blocked", "inside a network"),
    "": ("no_photo", "no photo"),
}


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    data = tmp_path / "data"
    data.mkdir()
    for name, content in FILES.items():
        (data / name).write_bytes(content)
    (tmp_path / "outside.jpg").write_bytes(encoded(PLAIN, "JPEG"))
    (data / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    items = pd.DataFrame({"item_id": list(EXPECTED), "image": list(EXPECTED), "title": "A mug", "category": "mugs"})
    return caption_items(items, SizeAndColourCaptioner(), data, tmp_path / "cache", remote=FetchPolicy(FillPolicy()))


def test_each_bad_photo_is_a_row_with_a_clear_status(rows: pd.DataFrame) -> None:
    assert list(rows["item_id"]) == list(EXPECTED)
    for row in rows.to_dict("records"):
        status, words = EXPECTED[str(row["item_id"])]
        assert row["status"] == status, row
        if status == "ok":
            assert row["caption"] == words
        else:
            assert row["caption"] is None
            assert words in row["error"]
            assert "\n" not in row["error"]


def test_conversions_of_odd_photos_are_noted(rows: pd.DataFrame) -> None:
    notes = dict(zip(rows["item_id"], rows["error"], strict=True))
    assert notes["print.jpg"] == "CMYK converted to RGB"
    assert notes["deep.png"] == "I;16 samples scaled to 8 bits"
    assert notes["turned.jpg"] is None
