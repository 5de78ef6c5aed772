"""Wrong rows and photos for the built-in shop, each wrong in one known way, so that every count is predictable."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from vlm4rec_search.datasets.demo_shop.shoppers import Row

ItemRow = dict[str, str]

_BAD_ITEMS: dict[str, dict[str, str]] = {
    "no id": {"item_id": ""},
    "duplicate id": {"item_id": "00001"},
    "markup in title": {"title": "<b>Sale</b> <a href='/sale'>see all offers</a>"},
    "page script in title": {"title": "function(){window.dataLayer=window.dataLayer||[];dataLayer.push(arguments);}"},
    "script tag in title": {"title": "<script>document.write(product.name)</script>"},
    "no title": {"title": ""},
}
_BAD_INTERACTIONS: dict[str, dict[int, str]] = {
    "no user": {0: ""},
    "no item": {1: ""},
    "unparsable time": {2: "yesterday, about noon"},
    "future time": {2: "2999-01-01T00:00:00"},
    "unknown item": {1: "no-such-item"},
}


def bad_items(good: ItemRow, first_free: int) -> dict[str, ItemRow]:
    """Return one row per kind of error: a copy of `good` with that error and with an id counted from `first_free`."""
    kinds = enumerate(_BAD_ITEMS.items(), start=first_free)
    return {kind: {**good, "item_id": f"{number:05d}", "image": "", **wrong} for number, (kind, wrong) in kinds}


def bad_interactions(good: list[Row]) -> dict[str, list[Row]]:
    """Return copies of the rows `good` for each kind of error, with that error."""
    return {kind: [_with_errors(row, wrong) for row in good] for kind, wrong in _BAD_INTERACTIONS.items()}


def _with_errors(row: Row, wrong: dict[int, str]) -> Row:
    user, item, time, event, value = (wrong.get(column, text) for column, text in enumerate(row))
    return user, item, time, event, value


def _write_text(photo: Image.Image, path: Path) -> None:
    path.write_text("The photographer has not delivered this one yet.\n", encoding="utf-8")


def _write_truncated(photo: Image.Image, path: Path) -> None:
    photo.save(path, quality=88)
    path.write_bytes(path.read_bytes()[:2000])


def _write_bomb(photo: Image.Image, path: Path, side: int = 20_000) -> None:
    """Write a black one-bit PNG of side x side pixels: a file of about 50 kB with 400 million pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    pixels = b"".join(packer.compress(row * 1000) for _ in range(side // 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _write_animated(photo: Image.Image, path: Path) -> None:
    frames = [photo.rotate(angle, fillcolor=(225, 225, 225)) for angle in (0, 8, -8)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, loop=0)


def _write_cmyk(photo: Image.Image, path: Path) -> None:
    photo.convert("CMYK").save(path, quality=88)


def _write_alpha(photo: Image.Image, path: Path) -> None:
    photo.putalpha(Image.radial_gradient("L").point([255 if level < 190 else 0 for level in range(256)]))
    photo.save(path)


def _write_nothing(photo: Image.Image, path: Path) -> None:
    """Write no file, although the catalogue may name one."""


BAD_PHOTOS: dict[str, tuple[str, Callable[[Image.Image, Path], None]]] = {
    "missing file": (".jpg", _write_nothing),
    "text named .jpg": (".jpg", _write_text),
    "truncated JPEG": (".jpg", _write_truncated),
    "decompression bomb": (".png", _write_bomb),
    "animated GIF": (".gif", _write_animated),
    "CMYK JPEG": (".jpg", _write_cmyk),
    "PNG with alpha": (".png", _write_alpha),
    "no image": ("", _write_nothing),
}
"""For each kind of bad photo the suffix of its file, and the function that writes it from a good photo."""

_UNREADABLE = ("missing file", "text named .jpg", "truncated JPEG", "decompression bomb")
_UNREADABLE_SHARE = 0.05  # of the photos; above it the suite item_captions refuses a catalogue


def bad_photo_kinds(items: int) -> list[str]:
    """Return the kinds of bad photos of a shop; a small one has fewer unreadable photos, so that it passes its checks.

    Args:
        items: number of good items; each has a photo, except the one of the kind "no image".
    """
    excess = _UNREADABLE[int(_UNREADABLE_SHARE * (items - 1)) :]
    return [kind for kind in BAD_PHOTOS if kind not in excess]
