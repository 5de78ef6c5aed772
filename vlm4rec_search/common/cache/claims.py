"""Who is at work on which key: no two processes pay for the same model call at the same moment."""

import fcntl
import hashlib
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class Claims:
    """Keys that this process works on, as locks on single bytes of a file; they end with the process, however it ends.

    The locks are the process's own (POSIX): a process has one object for a file at a time. Where the file system knows
    no locks every claim succeeds.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def take(self, key: str) -> bool:
        """Claim a key and say whether it is ours; False while another process has it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            pass  # no locks here
        return True

    def give(self, key: str) -> None:
        """End a claim."""
        with suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(key))

    def wait(self, key: str) -> None:
        """Wait until no other process has the key; for who holds no claim, so that no two wait for each other."""
        if not self.take(key):
            print("waiting for another run, which is at what is left", file=sys.stderr)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _place(key))
            except OSError:
                time.sleep(0.1)
        self.give(key)


def _place(key: str) -> int:
    """Return the byte of a key, one of 2**56."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])
