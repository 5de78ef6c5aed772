"""Safe reading of product photos: any bytes end in an image or in one `PhotoError`, never in a crash."""

import hashlib
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

MAX_BYTES = 64 * 2**20


class PhotoError(Exception):
    """A photo that cannot be used.

    status: no_photo, outside, missing, unreadable, too_large or wrong_type; of a photo behind a URL also blocked,
    unreachable, or pending (not fetched yet).
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Found:
    """Where the photo of an item is and the sha256 (hex) of its bytes, or why there is none."""

    path: Path | None = None
    digest: str | None = None
    error: PhotoError | None = None


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
LONGEST_SIDE = 1024
PREPROCESSING = "photo-1"  # part of the key of every result that saw a photo: raise it when `read` changes

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


@dataclass(frozen=True)
class Photo:
    """An RGB image of at most `LONGEST_SIDE` pixels a side, and what had to be done to get it ("" for nothing)."""

    image: Image.Image
    note: str = ""


def read(found: Found) -> Photo:
    """Decode the photo that was found: first frame, upright, RGB, on white, at most `LONGEST_SIDE` pixels a side.

    Raises:
        PhotoError: what is wrong with the photo: the error of `found`, unreadable, too_large (`MAX_PIXELS`,
            `MAX_BYTES`) or wrong_type (not one of `FORMATS`).
    """
    content = _content(found)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's on odd files; what matters becomes a note or an error
            return _decode(content)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("too_large", f"more than {MAX_PIXELS:,} pixels, perhaps a decompression bomb") from None
    except Exception as error:  # decoders raise almost anything on hostile bytes
        raise _unreadable(content, error) from None


def _content(found: Found) -> bytes:
    """Return the bytes that were hashed: a photo replaced since then must not pass under the old hash."""
    if found.error is not None or found.path is None:
        raise found.error or PhotoError("missing", "there is no such file in the data folder")
    try:
        content = found.path.read_bytes()
    except OSError as error:
        raise PhotoError("unreadable", f"the file cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != found.digest:
        raise PhotoError("unreadable", "the file was changed while it was read: plan again")
    return content


def _decode(content: bytes) -> Photo:
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PhotoError("too_large", f"{width} x {height} pixels, at most {MAX_PIXELS:,} are read")
        notes = _frames(image)
        image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        image.load()
        upright, more = _upright(image)
    rgb, converted = _rgb(upright)
    rgb.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return Photo(rgb, "; ".join(notes + more + converted))


def _frames(image: Image.Image) -> list[str]:
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1 or image.format == "MPO":  # a phone's JPEG with a preview behind it is an ordinary photo
        return []
    return [f"animated or multi-page: first of {frames} frames used"]


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    try:
        return ImageOps.exif_transpose(image), []
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image.copy(), ["EXIF orientation unreadable: ignored"]


def _rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(canvas, rgba).convert("RGB"), ["transparency laid on white"]
    if image.mode.startswith(("I", "F")):
        return _stretched(image), [f"{image.mode} samples stretched to 8 bits"]
    if image.mode in ("RGB", "L", "1", "P"):
        return image.convert("RGB"), []
    return image.convert("RGB"), [f"{image.mode} converted to RGB"]


def _stretched(image: Image.Image) -> Image.Image:
    """Bring 16-bit, 32-bit and float samples to 0..255 by their own range, where Pillow would clip them."""
    import numpy as np

    samples = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    low, high = samples.min(), samples.max()
    scaled = (samples - low) / (high - low or 1.0) * 255.0
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def _unreadable(content: bytes, error: Exception) -> PhotoError:
    head = content[:12]
    known = head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")
    if head and not known:
        return PhotoError("wrong_type", f"not one of {', '.join(FORMATS)}")
    return PhotoError("unreadable", f"damaged or cut off ({type(error).__name__})" if head else "the file is empty")
