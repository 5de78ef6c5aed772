"""Files: their text, their hash, their replacement in one step, and locks."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from uuid import uuid4

from vlm4rec_search.common.errors import RunError, UsageError, one_line

PARTS = f".{'[0-9a-f]' * 32}.part*"
"""The pattern of the names of files that `replacing_file` writes, with what a database writes beside them."""
_STALE_SECONDS = 3600.0
_WORKING = "vlm4rec-working-"


def file_sha256(path: Path) -> str:
    """Return the sha256 of the bytes of a file, in hex.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path, subject: str, hint: str = "", encoding: str = "utf-8") -> str:
    """Return the text of a file that people write.

    Args:
        path: of the file.
        subject: what the message says before the path, such as "the keys in".
        hint: end of the message, such as "set VLM4REC_RANKING".
        encoding: `utf-8-sig` leaves out a byte order mark.

    Raises:
        UsageError: the file cannot be read, or has another encoding.
    """
    try:
        return path.read_text(encoding)
    except (OSError, UnicodeDecodeError) as error:
        reason = one_line(getattr(error, "strerror", error))
        raise UsageError(f"cannot read {subject} {path} ({reason}){hint and ': '}{hint}") from None


@contextmanager
def replacing_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a path beside a file; what the block writes there replaces the file in one step, or nothing after an error.

    The folder is created where it is missing. Threads and processes that write the same file at once do not meet.

    Args:
        path: of the file.
        durable: the content is on the disk before it replaces the file.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid4().hex}.part")  # the file's own name may be as long as a name can be
    try:
        yield part
        if durable:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_stale(folder: Path, pattern: str) -> None:
    """Remove the files and folders of a pattern that killed processes have left in a folder.

    What has changed within an hour may belong to a process that is still writing, and stays.

    Raises:
        OSError: one of them cannot be removed.
    """
    for path in folder.glob(pattern):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def working_folder(place: Path | None = None) -> Iterator[Path]:
    """Yield a new folder for files of this process, which is removed after the block.

    The process holds a lock on the folder, so that `remove_abandoned`, which runs first, knows those of killed ones.

    Args:
        place: where the folder is made, created where it is missing; None takes the temporary folder (TMPDIR).

    Raises:
        RunError: the folder cannot be made.
    """
    place = place or Path(gettempdir())
    with suppress(OSError):  # the next call tries again
        remove_abandoned(place)
    try:
        place.mkdir(parents=True, exist_ok=True)
        made = Path(mkdtemp(dir=place, prefix="."))  # gets its name when it is locked
        folder, lock = made.with_name(f"{_WORKING}{made.name[1:]}"), os.open(made, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"cannot make a folder for temporary files in {place}: {error.strerror or error}") from None
    try:
        with suppress(OSError):  # a file system without locks, on which nobody can tell
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield made.rename(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned(place: Path | None = None) -> None:
    """Remove the folders of `working_folder` that killed processes have left in a place.

    Raises:
        OSError: one of them cannot be removed.
    """
    for folder in (place or Path(gettempdir())).glob(f"{_WORKING}*"):
        try:
            lock = os.open(folder, os.O_RDONLY)
        except OSError:  # its process has just removed it, or it is another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_left = folder.exists()
        except OSError:
            is_left = False
        try:
            if is_left:
                shutil.rmtree(folder)
        finally:
            os.close(lock)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Keep other threads and processes out of the block that hold the same lock; waits for one that is in it.

    Args:
        path: an empty file, created with its folder where it is missing.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def write_lock(path: Path, subject: str) -> Iterator[None]:
    """Hold a `file_lock` while the block writes.

    Args:
        path: as in `file_lock`.
        subject: what the message says is not written, such as "the index folder index".

    Raises:
        RunError: the file, or what the block writes, cannot be written.
    """
    try:
        with file_lock(path):
            yield
    except OSError as error:
        raise RunError(f"cannot write {subject}: {error.strerror or error}") from None
