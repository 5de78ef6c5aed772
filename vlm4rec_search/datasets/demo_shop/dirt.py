"""Dirt on purpose: rows and photos that are wrong in one known way each, so that every count can be foretold."""

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
    "negative price": {"price": "-4.50"},
    "price not a number": {"price": "ask us"},
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
    """Return one row per kind of dirt; apart from it each is as good as `good`, under a free id of its own."""
    kinds = enumerate(_BAD_ITEMS.items(), start=first_free)
    return {kind: {**good, "item_id": f"{number:05d}", "image": "", **wrong} for number, (kind, wrong) in kinds}


def bad_interactions(good: list[Row]) -> dict[str, list[Row]]:
    """Return, per kind of dirt, the rows of `good` with this one thing wrong."""
    return {kind: [_spoil(row, wrong) for row in good] for kind, wrong in _BAD_INTERACTIONS.items()}


def _spoil(row: Row, wrong: dict[int, str]) -> Row:
    user, item, time, event, value = (wrong.get(place, text) for place, text in enumerate(row))
    return user, item, time, event, value


def _text(photo: Image.Image, path: Path) -> None:
    path.write_text("The photographer has not delivered this one yet.\n", encoding="utf-8")


def _truncated(photo: Image.Image, path: Path) -> None:
    photo.save(path, quality=88)
    path.write_bytes(path.read_bytes()[:2000])


def _bomb(photo: Image.Image, path: Path, side: int = 20_000) -> None:
    """Write a black one-bit PNG of side x side pixels: about 50 kB that unpack to 400 million pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    pixels = b"".join(packer.compress(row * 1000) for _ in range(side // 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _animated(photo: Image.Image, path: Path) -> None:
    frames = [photo.rotate(angle, fillcolor=(225, 225, 225)) for angle in (0, 8, -8)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, loop=0)


def _cmyk(photo: Image.Image, path: Path) -> None:
    photo.convert("CMYK").save(path, quality=88)


def _alpha(photo: Image.Image, path: Path) -> None:
    photo.putalpha(Image.radial_gradient("L").point([255 if level < 190 else 0 for level in range(256)]))
    photo.save(path)


def _nothing(photo: Image.Image, path: Path) -> None:
    """The catalogue names a file that is not there."""


BAD_PHOTOS: dict[str, tuple[str, Callable[[Image.Image, Path], None]]] = {
    "missing file": (".jpg", _nothing),
    "text named .jpg": (".jpg", _text),
    "truncated JPEG": (".jpg", _truncated),
    "decompression bomb": (".png", _bomb),
    "animated GIF": (".gif", _animated),
    "CMYK JPEG": (".jpg", _cmyk),
    "PNG with alpha": (".png", _alpha),
    "no image": ("", _nothing),
}
"""Kind of bad photo -> suffix of its file, and how it is written from a good photo."""
