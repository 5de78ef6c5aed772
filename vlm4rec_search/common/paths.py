"""Files: their hash, their replacement in one step, and locks."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the sha256 of the bytes of a file, in hex.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a path beside a file; what the block writes there replaces the file in one step, or nothing after an error.

    The folder is created where it is missing. Processes that write the same file at once do not meet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Keep other processes out of the block that hold the same lock; waits for one that is in it.

    Args:
        path: an empty file, created with its folder where it is missing.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
