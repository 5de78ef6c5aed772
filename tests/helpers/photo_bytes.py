"""Photos as the bytes of their files."""

import io
from pathlib import Path

from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def png(width: int) -> bytes:
    return encoded(Image.new("RGB", (width, 4), "red"), "PNG")


def write_file(folder: Path, data: bytes, name: str = "photo.jpg") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
