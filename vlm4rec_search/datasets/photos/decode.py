"""Safe decoding of product photos: any bytes give an image or a `PhotoError`, never a crash."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vlm4rec_search.common.cache import Failure

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
LONGEST_SIDE = 1024
PREPROCESSING = "photo-1"  # part of the key of every result that saw a photo: another one pays for all captions again

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


class PhotoError(Exception):
    """A photo that cannot be used.

    Attributes:
        status: no_photo, outside, missing, unreadable, too_large or wrong_type; for a photo behind a URL also
            blocked, unreachable or pending (not fetched yet).
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class PhotoFile:
    """The file of an item's photo with the sha256 (hex) of its bytes, or the failure to find or read it.

    The status of the failure is one of `PhotoError`.
    """

    path: Path | None = None
    digest: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Photo:
    """An RGB image of at most `LONGEST_SIDE` pixels a side; `note` lists the conversions, "" for none."""

    image: Image.Image
    note: str = ""


def read_photos(files: Sequence[PhotoFile]) -> list[Photo | Failure]:
    """Decode photos; a photo that cannot be used gives a failure with a status of `PhotoError`."""
    photos: list[Photo | Failure] = []
    for file in files:
        try:
            photos.append(read_photo(file))
        except PhotoError as error:
            photos.append(Failure.from_error(error))
    return photos


def read_photo(file: PhotoFile) -> Photo:
    """Decode a photo: first frame, upright, RGB, on white, at most `LONGEST_SIDE` pixels a side.

    Raises:
        PhotoError: the failure of `file`, or unreadable, too_large (`MAX_PIXELS`, `MAX_BYTES`) or wrong_type (not one
            of `FORMATS`).
    """
    return decode_photo(_read_bytes(file))


def decode_photo(content: bytes) -> Photo:
    """Decode the bytes of a photo, as `read_photo` does.

    Raises:
        PhotoError: unreadable, too_large or wrong_type.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd files; important oddities become notes or errors
            return _decode(content)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("too_large", f"more than {MAX_PIXELS:,} pixels, perhaps a decompression bomb") from None
    except Exception as error:  # decoders raise almost anything on hostile bytes
        raise _classify_error(content, error) from None


def _read_bytes(file: PhotoFile) -> bytes:
    """Return the bytes of a file whose hash has not changed: a replaced photo must not pass under the old hash."""
    if file.failure is not None:
        raise PhotoError(file.failure.status, file.failure.message)
    if file.path is None:
        raise PhotoError("missing", "there is no such file in the data folder")
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise PhotoError("unreadable", f"the file cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != file.digest:
        raise PhotoError("unreadable", "the file was changed while it was read: plan again")
    return content


def _decode(content: bytes) -> Photo:
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PhotoError("too_large", f"{width} x {height} pixels, at most {MAX_PIXELS:,} are read")
        frame_notes = _describe_frames(image)
        image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        image.load()
        upright, rotation_notes = _rotate_upright(image)
    rgb, colour_notes = _convert_to_rgb(upright)
    rgb.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return Photo(rgb, "; ".join(frame_notes + rotation_notes + colour_notes))


def _describe_frames(image: Image.Image) -> list[str]:
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1 or image.format == "MPO":  # a phone's JPEG with a preview behind it is an ordinary photo
        return []
    return [f"animated or multi-page: first of {frames} frames used"]


def _rotate_upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    try:
        return ImageOps.exif_transpose(image), []
    except Exception:  # the pixels can be good although the EXIF block is damaged
        return image.copy(), ["EXIF orientation unreadable: ignored"]


def _convert_to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(canvas, rgba).convert("RGB"), ["transparency laid on white"]
    if image.mode.startswith("I;16"):
        samples = np.asarray(image, dtype=np.uint16) // 257
        return Image.fromarray(samples.astype(np.uint8)).convert("RGB"), [f"{image.mode} samples scaled to 8 bits"]
    if image.mode.startswith(("I", "F")):
        return _stretch_to_8_bits(image), [f"{image.mode} samples stretched to 8 bits"]
    if image.mode in ("RGB", "L", "1", "P"):
        return image.convert("RGB"), []
    return image.convert("RGB"), [f"{image.mode} converted to RGB"]


def _stretch_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 32-bit and float samples from their own range to 0..255; Pillow would clip them."""
    samples = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    low, high = samples.min(), samples.max()
    scaled = (samples - low) / (high - low or 1.0) * 255.0
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def _classify_error(content: bytes, error: Exception) -> PhotoError:
    """Return the error of bytes that cannot be decoded; the first bytes tell a damaged photo from another type."""
    head = content[:12]
    has_signature = head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")
    if head and not has_signature:
        return PhotoError("wrong_type", f"not one of {', '.join(FORMATS)}")
    return PhotoError("unreadable", f"damaged or cut off ({type(error).__name__})" if head else "the file is empty")
