"""The photo files of a data folder: where each item's photo is, what its bytes are, and whether any of them changed."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from vlm4rec_search.common.cache.cache import Cache, Result, result_key
from vlm4rec_search.common.cache.policy import EarlierError, Effort, PendingError
from vlm4rec_search.datasets.photos.decode import MAX_BYTES, Found, PhotoError

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_PHOTOS = ("", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Remote:
    """How far photos behind URLs are fetched, and whether private addresses may be called."""

    effort: Effort
    allow_private: bool = False


ONLY_FETCHED = Remote(Effort(limit=0))


def is_url(image: str | None) -> TypeGuard[str]:
    """Say whether a catalogue's photo is a URL rather than a path."""
    return image is not None and _URL.match(image.strip()) is not None


def locate(root: Path, image: str | None) -> Path:
    """Return the resolved path of a photo inside the data folder `root`, which is resolved itself.

    Raises:
        PhotoError: no_photo (empty), outside (leaves the folder, links resolved) or missing.
    """
    name = (image or "").strip()
    if not name:
        raise PhotoError("no_photo", "the item has no photo")
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise PhotoError("outside", "the path leaves the data folder")
        if not path.is_file():
            raise PhotoError("missing", "there is no such file in the data folder")
    except (OSError, ValueError, RuntimeError) as error:
        raise PhotoError("missing", f"not a usable path: {error}") from None
    return path


def find(images: Sequence[str | None], data_dir: Path, cache: Cache, remote: Remote = ONLY_FETCHED) -> list[Found]:
    """Locate each photo and hash its bytes; unchanged files (path, size, times) are not read again.

    Photos behind URLs are fetched as far as `remote` allows; by default only those fetched before are found.
    """
    root = data_dir.resolve()
    fetched = _fetched([image.strip() for image in images if is_url(image)], cache, remote)
    located = [fetched[image.strip()] if is_url(image) else _located(root, image) for image in images]
    paths = sorted({found.path for found in located if found.path})
    digests = dict(zip(paths, _digests(paths, cache), strict=True))
    return [found if found.path is None else _hashed(found.path, digests[found.path]) for found in located]


def fingerprint(data_dir: Path, cache: Cache) -> str:
    """Return a hash over path and bytes of every photo in the folder; unchanged files are not read again.

    Photos are files with the suffix of an image or with none, outside hidden folders, so that logs, tables or a
    warehouse in the same folder do not count.
    """
    root = data_dir.resolve()
    paths = sorted(path for path in _files(root) if _inside(path, root))
    digests = zip(paths, _digests(paths, cache), strict=True)
    entries = [f"{path.relative_to(root).as_posix()} {_hashed(path, digest).digest}" for path, digest in digests]
    return hashlib.sha256("\n".join(entries).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _inside(path: Path, root: Path) -> bool:
    try:
        return path.is_file() and path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a folder that may not be entered, links that go in circles
        return False


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = (Path(folder, name) for name in names if not name.startswith("."))
        yield from (path for path in visible if path.suffix.lower() in _PHOTOS)


def _fetched(urls: list[str], cache: Cache, remote: Remote) -> dict[str, Found]:
    if not urls:
        return {}
    from vlm4rec_search.datasets.photos.fetch import fetch_photos

    distinct = list(dict.fromkeys(urls))
    files = fetch_photos(distinct, cache, remote.allow_private, remote.effort)
    return dict(zip(distinct, map(_behind_url, files), strict=True))


def _behind_url(file: Path | Exception) -> Found:
    if isinstance(file, Path):
        return Found(file.resolve())
    if isinstance(file, PendingError):
        return Found(error=PhotoError("pending", "the photo behind the URL is not fetched yet: `vlm4rec captions run`"))
    known = EarlierError.of(file)
    return Found(error=PhotoError(known.status, str(known)))


def _located(root: Path, image: str | None) -> Found:
    try:
        return Found(path=locate(root, image))
    except PhotoError as error:
        return Found(error=error)


def _hashed(path: Path, digest: Result) -> Found:
    if isinstance(digest, bytes):
        return Found(path, digest.hex())
    return Found(path, error=digest if isinstance(digest, PhotoError) else PhotoError("unreadable", str(digest)))


def _digests(paths: Sequence[Path], cache: Cache) -> list[Result]:
    # The change time is part of the key because a copy may keep the modification time of what it replaces.
    stats = [_stat(path) for path in paths]
    there = [position for position, stat in enumerate(stats) if isinstance(stat, os.stat_result)]
    keys = [
        result_key("digest", str(path), str(stat.st_size), str(stat.st_mtime_ns), str(stat.st_ctime_ns))
        for path, stat in zip(paths, stats, strict=True)
        if isinstance(stat, os.stat_result)
    ]

    def compute(positions: Sequence[int]) -> list[Result]:
        return [_digest(paths[there[position]]) for position in positions]

    filled = cache.fill("digest", "sha256", keys, compute, label="photos hashed", batch_size=256, recorded=False)
    digests = dict(zip(there, filled.values, strict=True))
    return [digests[at] if isinstance(stat, os.stat_result) else stat for at, stat in enumerate(stats)]


def _stat(path: Path) -> os.stat_result | PhotoError:
    """Return what is known of a file, or why nothing is: it may go while the others are looked at."""
    try:
        return path.stat()
    except OSError as error:
        return PhotoError("missing", f"the file cannot be found any more: {error.strerror}")


def _digest(path: Path) -> Result:
    try:
        if path.stat().st_size > MAX_BYTES:
            return PhotoError("too_large", f"the file has more than {MAX_BYTES // 2**20} MiB")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return PhotoError("unreadable", f"the file cannot be read: {error.strerror}")
