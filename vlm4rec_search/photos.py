"""Safe reading of product photos: any bytes end in an image or in one `PhotoError`, never in a crash."""

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from vlm4rec_search.cache import Cache, Result, result_key

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 2**20
LONGEST_SIDE = 1024
PREPROCESSING = "photo-1"  # part of the key of every result that saw a photo: raise it when `read` changes

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


class PhotoError(Exception):
    """A photo that cannot be used; status: no_photo, remote, outside, missing, unreadable, too_large or wrong_type."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Photo:
    """An RGB image of at most `LONGEST_SIDE` pixels a side, and what had to be done to get it ("" for nothing)."""

    image: Image.Image
    note: str = ""


@dataclass(frozen=True)
class Found:
    """Where the photo of an item is and the sha256 (hex) of its bytes, or why there is none."""

    path: Path | None = None
    digest: str | None = None
    error: PhotoError | None = None


def locate(data_dir: Path, image: str | None) -> Path:
    """Return the resolved path of a photo inside the data folder.

    Raises:
        PhotoError: no_photo (empty), remote (a URL), outside (leaves the folder, links resolved) or missing.
    """
    name = (image or "").strip()
    if not name:
        raise PhotoError("no_photo", "the item has no photo")
    if _URL.match(name):
        raise PhotoError("remote", "photos behind URLs are not fetched yet: download it into the data folder")
    root = data_dir.resolve()
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise PhotoError("outside", "the path leaves the data folder")
        if not path.is_file():
            raise PhotoError("missing", "there is no such file in the data folder")
    except (OSError, ValueError, RuntimeError) as error:
        raise PhotoError("missing", f"not a usable path: {error}") from None
    return path


def find(images: Sequence[str | None], data_dir: Path, cache: Cache) -> list[Found]:
    """Locate each photo and hash its bytes; unchanged files (path, size, times) are not read again."""
    located = [_located(data_dir, image) for image in images]
    paths = sorted({found.path for found in located if found.path})
    digests = dict(zip(paths, _digests(paths, cache), strict=True))
    return [found if found.path is None else _hashed(found.path, digests[found.path]) for found in located]


def read(path: Path) -> Photo:
    """Decode a photo: first frame, upright, RGB, on white, shrunk to at most `LONGEST_SIDE` pixels a side.

    Raises:
        PhotoError: unreadable, too_large (`MAX_PIXELS`, `MAX_BYTES`) or wrong_type (not one of `FORMATS`).
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PhotoError("too_large", f"the file has more than {MAX_BYTES // 2**20} MiB")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow's warnings about odd files; what matters becomes a note or an error
            return _decode(path)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("too_large", f"more than {MAX_PIXELS:,} pixels, perhaps a decompression bomb") from None
    except Exception as error:  # decoders raise almost anything on hostile bytes
        raise _unreadable(path, error) from None


def _decode(path: Path) -> Photo:
    with Image.open(path, formats=FORMATS) as image:
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


def _unreadable(path: Path, error: Exception) -> PhotoError:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return PhotoError("unreadable", f"the file cannot be read: {error}")
    known = head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")
    if head and not known:
        return PhotoError("wrong_type", f"not one of {', '.join(FORMATS)}")
    return PhotoError("unreadable", f"damaged or cut off ({type(error).__name__})" if head else "the file is empty")


def _located(data_dir: Path, image: str | None) -> Found:
    try:
        return Found(path=locate(data_dir, image))
    except PhotoError as error:
        return Found(error=error)


def _hashed(path: Path, digest: Result) -> Found:
    if isinstance(digest, bytes):
        return Found(path, digest.hex())
    return Found(path, error=digest if isinstance(digest, PhotoError) else PhotoError("unreadable", str(digest)))


def _digests(paths: Sequence[Path], cache: Cache) -> list[Result]:
    # The change time is part of the key because a copy may keep the modification time of what it replaces.
    stats = [path.stat() for path in paths]
    keys = [
        result_key("digest", str(path), str(stat.st_size), str(stat.st_mtime_ns), str(stat.st_ctime_ns))
        for path, stat in zip(paths, stats, strict=True)
    ]

    def compute(positions: Sequence[int]) -> list[Result]:
        return [_digest(paths[position]) for position in positions]

    return cache.fill("digest", "sha256", keys, compute, label="photos hashed", batch_size=256, recorded=False).values


def _digest(path: Path) -> Result:
    try:
        if path.stat().st_size > MAX_BYTES:
            return PhotoError("too_large", f"the file has more than {MAX_BYTES // 2**20} MiB")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return PhotoError("unreadable", f"the file cannot be read: {error.strerror}")
