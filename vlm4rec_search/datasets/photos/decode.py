"""Safe decoding of product photos: any bytes give an image or a `PhotoError`, never a crash."""

import hashlib
import os
import warnings
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from vlm4rec_search.common.cache import Failure

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
LONGEST_SIDE = 1024
PREPROCESSING = "photo-1"  # part of the key of every result that saw a photo: another one pays for all captions again

_TILE = 1024  # pixels a side
_AT_ONCE = 2  # photos: one of 50 million pixels takes 200 to 400 MB, as WebP 800 MB, as JPEG 2000 1.1 GB
_Result = TypeVar("_Result")

# Pillow warns of odd files; important oddities become notes or errors. This is no task for `warnings.catch_warnings`:
# photos are decoded in threads, and the filters belong to the process.
warnings.filterwarnings("ignore", module=r"PIL\.")

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


def data_url(image: Image.Image, quality: int) -> str:
    """Return an RGB image as a data URL: a JPEG of the given quality, 1 to 95."""
    content = BytesIO()
    image.save(content, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{b64encode(content.getvalue()).decode()}"


def thumbnail_url(file: PhotoFile, side: int) -> str:
    """Return a photo as a data URL with at most `side` pixels a side, "" if it cannot be read."""
    try:
        image = read_photo(file).image
    except PhotoError:
        return ""
    image.thumbnail((side, side))
    return data_url(image, 75)


def decode_photo(content: bytes) -> Photo:
    """Decode the bytes of a photo, as `read_photo` does.

    Raises:
        PhotoError: unreadable, too_large or wrong_type.
    """
    try:
        return _decode(content)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("too_large", f"more than {MAX_PIXELS:,} pixels, perhaps a decompression bomb") from None
    except Exception as error:  # decoders raise almost anything on hostile bytes
        raise _classify_error(content, error) from None


def in_decoding_thread(work: Callable[[], _Result]) -> _Result:
    """Return what `work` returns, called in one of two threads of this process, and raise what it raises.

    A service decodes the photos of its many threads here. The allocator keeps memory for each thread that has ever
    decoded a photo, so that a limit of photos at once alone would not limit the memory of the process.
    """
    return _decoding_threads(os.getpid()).submit(work).result()


@cache
def _decoding_threads(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process, by its id since a fork inherits no threads; each starts with its first photo."""
    return ThreadPoolExecutor(_AT_ONCE, "decode photos")


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
    image, notes = _read_upright(content)
    rgb, colour_notes = _convert_to_rgb(image)
    rgb.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return Photo(rgb, "; ".join(notes + colour_notes))


def _read_upright(content: bytes) -> tuple[Image.Image, list[str]]:
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PhotoError("too_large", f"{width} x {height} pixels, at most {MAX_PIXELS:,} are read")
        frame_notes = _describe_frames(image)
        image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        image.load()
        upright, rotation_notes = _rotate_upright(image)
    return upright, frame_notes + rotation_notes


def _describe_frames(image: Image.Image) -> list[str]:
    is_animated = getattr(image, "is_animated", False)  # `n_frames` would read every page of a TIFF
    if not is_animated or image.format == "MPO":  # a phone's JPEG with a preview behind it is an ordinary photo
        return []
    return ["animated or multi-page: first of several frames used"]


def _rotate_upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    try:
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return image if is_upright else ImageOps.exif_transpose(image), []
    except Exception:  # the pixels can be good although the EXIF block is damaged
        return image, ["EXIF orientation unreadable: ignored"]


def _convert_to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _convert_tiles(image, _lay_on_white), ["transparency laid on white"]
    if image.mode.startswith("I;16"):
        return _convert_tiles(image, _scale_to_8_bits), [f"{image.mode} samples scaled to 8 bits"]
    if image.mode.startswith(("I", "F")):
        return _stretch_to_8_bits(image), [f"{image.mode} samples stretched to 8 bits"]
    if image.mode in ("RGB", "L"):
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))  # gives the same pixels before as after a conversion of all
        return image.convert("RGB"), []
    return image.convert("RGB"), [] if image.mode in ("1", "P") else [f"{image.mode} converted to RGB"]


def _convert_tiles(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return an image as RGB, converted in tiles: each step of `convert` takes a copy, for all of a photo 200 MB."""
    rgb = Image.new("RGB", image.size)
    for box in _tiles(image):
        rgb.paste(convert(image.crop(box)), box)
    return rgb


def _tiles(image: Image.Image) -> list[tuple[int, int, int, int]]:
    """Return the boxes of tiles of at most `_TILE` pixels a side, which cover an image."""
    width, height = image.size
    return [
        (left, top, min(left + _TILE, width), min(top + _TILE, height))
        for top in range(0, height, _TILE)
        for left in range(0, width, _TILE)
    ]


def _lay_on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    samples = np.asarray(image, dtype=np.uint16) // 257
    return Image.fromarray(samples.astype(np.uint8)).convert("RGB")


def _stretch_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 32-bit and float samples from their own range to 0..255; Pillow would clip them."""
    ranges = [(samples.min(), samples.max()) for samples in map(_finite_samples, map(image.crop, _tiles(image)))]
    low, high = min(first for first, _ in ranges), max(last for _, last in ranges)

    def stretch(tile: Image.Image) -> Image.Image:
        scaled = (_finite_samples(tile) - low) / (high - low or 1.0) * 255.0
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")

    return _convert_tiles(image, stretch)


def _finite_samples(image: Image.Image) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)


def _classify_error(content: bytes, error: Exception) -> PhotoError:
    """Return the error of bytes that cannot be decoded; the first bytes tell a damaged photo from another type."""
    head = content[:12]
    has_signature = head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")
    if head and not has_signature:
        return PhotoError("wrong_type", f"not one of {', '.join(FORMATS)}")
    return PhotoError("unreadable", f"damaged or cut off ({type(error).__name__})" if head else "the file is empty")
