"""The photo file of each item, in the data folder or fetched from a URL, and the hash of its bytes."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard
from urllib.parse import unquote

from vlm4rec_search.common.cache import RAW, Cache, Failure, FillPolicy, result_key
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.text_forms import spellings
from vlm4rec_search.datasets.photos.decode import MAX_BYTES, PhotoError, PhotoFile
from vlm4rec_search.datasets.photos.fetch import fetch_photos

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|//[\w-]+(?:\.[\w-]+)+(?::\d+)?/")  # or //host.name/ without a scheme
_LIST = re.compile(r"^\[|\.\w{2,5}\s*[|;,]\s*\S")
# A URL may hold another one, as that of an image proxy does; behind a space, or a sign and of the same host, it is the
# next of a list.
_URLS = re.compile(r"\s(?:https?:)?//|^(?:https?:)?(//[^/?#|;,\s]++).*[|;,](?:https?:)?\1(?![^/?#])", re.IGNORECASE)
_SUFFIXES = ("", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
_HIDDEN = re.compile(r"(?:^|[/\\])\.[^./\\]")
_NOT_FETCHED = Failure("pending", "the photo behind the URL is not fetched yet: run `vlm4rec captions run`")


@dataclass(frozen=True)
class FetchPolicy:
    """Which photos behind URLs are fetched (`fill`), and whether private addresses may be called."""

    fill: FillPolicy
    allow_private: bool = False


NO_FETCH = FetchPolicy(FillPolicy(limit=0))


def plan_remote(settings: Settings) -> FetchPolicy:
    """Return the rule by which a plan fetches photos behind URLs: as many as its captions, and no earlier failures."""
    return FetchPolicy(FillPolicy(limit=settings.caption_budget, retry_failed=False), settings.allow_private_addresses)


def is_url(image: str | None) -> TypeGuard[str]:
    """Return whether the image of a catalogue is a URL rather than a path or a list of URLs."""
    name = (image or "").strip()
    return _URL.match(name) is not None and not _URLS.search(name)


def resolve_path(root: Path, image: str | None) -> Path:
    """Return the resolved path of a photo inside the data folder `root`, which is resolved itself.

    Raises:
        PhotoError: no_photo (empty), outside (the path leaves the folder, links resolved) or missing.
    """
    name = (image or "").strip()
    if not name:
        raise PhotoError("no_photo", "the item has no photo")
    try:
        written, *others = [(root / spelling).resolve() for form in path_forms(name) for spelling in spellings(form)]
        inside = (path for path in others if path.is_relative_to(root) and path.is_file())
        path = written if written.is_file() else next(inside, written)
        if not path.is_relative_to(root):
            raise PhotoError("outside", "the path leaves the data folder")
        if not path.is_file():
            raise PhotoError("missing", _why_missing(name))
    except (OSError, ValueError, RuntimeError) as error:
        raise PhotoError("missing", f"not a usable path: {error}") from None
    return path


def _why_missing(name: str) -> str:
    if _LIST.search(name) or _URLS.search(name):
        return "it looks like a list of images: write one image for each item"
    if name.startswith("data:"):
        return "the photo is inside of the text: write it into a file"
    return "there is no such file in the data folder"


def with_scheme(url: str) -> str:
    """Return the stripped URL, as https if it is written without a scheme."""
    url = url.strip()
    return f"https:{url}" if url.startswith("//") else url


def path_forms(name: str) -> list[str]:
    """Return the path as written, then as an address or Windows would write it: no query, no escapes, slashes."""
    slashes = name.replace("\\", "/")
    plain = slashes.partition("?")[0]
    return list(dict.fromkeys((name, slashes, unquote(slashes), plain, unquote(plain))))


def locate_photos(
    images: Sequence[str | None], data_dir: Path, cache: Cache, fetching: FetchPolicy = NO_FETCH
) -> list[PhotoFile]:
    """Return the photo file of each image with its hash; a file whose path, size and times are unchanged is not read.

    Args:
        images: path relative to `data_dir`, URL, or None.
        data_dir: folder that the files must lie in.
        cache: hashes of files, and photos fetched before.
        fetching: which photos behind URLs are fetched now; by default none.

    Raises:
        RunError: the cache cannot be used.
        UsageError: as `fetch_photos`.
    """
    root = data_dir.resolve()
    images = [with_scheme(image) if is_url(image) else image for image in images]
    urls = dict.fromkeys(image for image in images if is_url(image))
    fetched = fetch_photos(list(urls), cache, fetching.fill, fetching.allow_private) if urls else {}
    located = [fetched.get(image, _NOT_FETCHED) if is_url(image) else _locate_path(root, image) for image in images]
    digests = _hash_files(sorted({path for path in located if isinstance(path, Path)}), cache)
    return [_photo_file(path, digests[path]) if isinstance(path, Path) else PhotoFile(failure=path) for path in located]


def fingerprint(data_dir: Path, cache: Cache, images: Iterable[str] = ()) -> str:
    """Return a hash over path and bytes of every photo in the folder; unchanged files are not read again.

    Photos are files outside hidden folders with the suffix of an image or with none, so that logs, tables or a
    warehouse in the same folder do not count, and any other file that one of `images`, as in a catalogue, names.
    """
    root = data_dir.resolve()
    # Most names are those of photos that are found anyway: looking for each of a million takes minutes.
    others = (name for name in images if not (is_url(name) or _looks_like_photo(name.partition("?")[0].strip())))
    named = {path for path in (_locate_path(root, name) for name in others) if isinstance(path, Path)}
    found = {path for path in _candidate_files(root) if _is_file_inside(path, root)}
    digests = _hash_files(sorted(found | named), cache)
    entries = [
        f"{path.relative_to(root).as_posix()} {_photo_file(path, digest).digest}" for path, digest in digests.items()
    ]
    return hashlib.sha256("\n".join(entries).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _is_file_inside(path: Path, root: Path) -> bool:
    try:
        return path.is_file() and path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a folder without permission to enter, or links in a circle
        return False


def _candidate_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if _looks_like_photo(name))


def _looks_like_photo(name: str) -> bool:
    """Return whether a path is in no hidden folder, and has the suffix of an image or none."""
    return not _HIDDEN.search(name) and Path(name).suffix.lower() in _SUFFIXES


def _locate_path(root: Path, image: str | None) -> Path | Failure:
    try:
        return resolve_path(root, image)
    except PhotoError as error:
        return Failure.from_error(error)


def _photo_file(path: Path, digest: bytes | Failure) -> PhotoFile:
    if isinstance(digest, Failure):
        return PhotoFile(path, failure=digest)
    return PhotoFile(path, digest.hex())


def _hash_files(paths: Sequence[Path], cache: Cache) -> dict[Path, bytes | Failure]:
    """Return the sha256 of each file, or why it cannot be read."""
    digests: dict[Path, bytes | Failure] = {}
    keys: dict[str, Path] = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:  # the file was removed since it was located
            digests[path] = Failure("missing", f"the file cannot be found any more: {error.strerror}")
        else:
            # The change time is part of the key: a copy may keep the modification time of the file that it replaces.
            times = (str(stat.st_mtime_ns), str(stat.st_ctime_ns))
            keys[result_key("digest", str(path), str(stat.st_size), *times)] = path
    results = cache.get_or_compute(
        "digest", "sha256", keys, _hash_batch, RAW, batch_size=256, label="photos hashed", recorded=False
    )
    digests |= {path: results.values.get(key) or results.failures[key] for key, path in keys.items()}
    return {path: digests[path] for path in paths}


def _hash_batch(paths: Sequence[Path]) -> list[bytes | Failure]:
    return [_hash_file(path) for path in paths]


def _hash_file(path: Path) -> bytes | Failure:
    try:
        if path.stat().st_size > MAX_BYTES:
            return Failure("too_large", f"the file has more than {MAX_BYTES // 2**20} MiB")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return Failure("unreadable", f"the file cannot be read: {error.strerror}")
