"""Small copies of product photos for the page, made from files of this machine only."""

import threading
from collections import OrderedDict
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.paths import file_sha256
from vlm4rec_search.datasets.photos.decode import MAX_BYTES, PhotoError, PhotoFile, in_decoding_thread, read_photo
from vlm4rec_search.datasets.photos.fetch import fetched_photo
from vlm4rec_search.datasets.photos.locate import is_url, resolve_path, with_scheme

SIZES = (160, 400, 900)  # pixels of the longer side
_LARGEST_CACHE = 64 * 2**20  # bytes
_Key: TypeAlias = tuple[Path, int, int, int]  # of a copy: the file, when it was changed (ns), its bytes, and the size


class Thumbnails:
    """Makes small copies of photos and keeps the last ones in memory; several threads may use it at once.

    A photo is a file in the data folder, or the copy of a fetched URL in the cache. Nothing is fetched. A file that was
    replaced is read again.
    """

    def __init__(self, data_dir: Path, cache: Path) -> None:
        """Read photos of a data folder, and of the photo cache in the folder `cache`."""
        self._root, self._cache_folder = data_dir.resolve(), cache
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def thumbnail(self, image: str | None, size: int) -> bytes:
        """Return a photo as WebP.

        Args:
            image: path or URL in the catalogue.
            size: one of `SIZES`.

        Raises:
            PhotoError: there is no such photo on this machine, or it cannot be decoded.
        """
        path = self._file(image)
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(error) from None
        key = (path, status.st_mtime_ns, status.st_size, size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        content = in_decoding_thread(partial(_shrink, path, size))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = content
                self._bytes += len(content)
            while self._bytes > _LARGEST_CACHE:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return content

    def _file(self, image: str | None) -> Path:
        if not is_url(image):
            return resolve_path(self._root, image)
        try:
            path = fetched_photo(self._cache_folder, with_scheme(image))
        except RunError as error:
            raise PhotoError("unreadable", str(error)) from None
        if path is None:
            raise PhotoError("pending", "the photo behind the URL is not fetched yet: run `vlm4rec captions run`")
        return path


def _unreadable(error: OSError) -> PhotoError:
    return PhotoError("unreadable", f"the file cannot be read: {error.strerror}")


def _shrink(path: Path, size: int) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PhotoError("too_large", f"the file has more than {MAX_BYTES // 2**20} MiB")
        photo = read_photo(PhotoFile(path, file_sha256(path)))
    except OSError as error:
        raise _unreadable(error) from None
    photo.image.thumbnail((size, size))
    content = BytesIO()
    photo.image.save(content, "WEBP", quality=82)
    return content.getvalue()
