"""Batches of missing results: each key is computed once, as long as the cap on spend allows."""

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar

from vlm4rec_search.common.cache.cost import CostMeter
from vlm4rec_search.common.cache.store import chunks
from vlm4rec_search.common.concurrency import run_concurrently

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PAUSE = 0.05  # seconds between two looks at a key that is held


class _LockFile:
    """The open file of a path in this process, shared by its threads: closing any one would end all of its locks."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("ab")
        self.held: set[str] = set()
        self.users = 0


_lock_files: dict[tuple[int, Path], _LockFile] = {}  # by process, since a fork inherits no locks
_one_at_a_time = Lock()


class KeyLocks:
    """Locks on keys, so that no two processes or threads pay for the same model call at the same moment.

    A lock is a POSIX lock on one byte of a file. It ends with the process, even when the process is killed. Such locks
    belong to the process, so the keys that its threads hold are noted besides. On a file system without locks,
    `acquire` succeeds for every key that no thread of this process holds.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._place = (os.getpid(), path.resolve())
        self._own: set[str] = set()
        with _one_at_a_time:
            self._shared = _lock_files.get(self._place) or _LockFile(path)
            self._shared.users += 1
            _lock_files[self._place] = self._shared

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for key in list(self._own):
            self.release(key)
        with _one_at_a_time:
            self._shared.users -= 1
            if not self._shared.users:
                del _lock_files[self._place]
                self._shared.file.close()

    def acquire(self, key: str) -> bool:
        """Lock a key without waiting; return False if another process or thread holds it."""
        with _one_at_a_time:
            if key in self._shared.held:
                return False
            try:
                fcntl.lockf(self._shared.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte_offset(key))
            except (BlockingIOError, PermissionError):
                return False
            except OSError:
                pass  # the file system has no locks
            self._shared.held.add(key)
            self._own.add(key)
        return True

    def release(self, key: str) -> None:
        """Unlock a key."""
        with _one_at_a_time:
            with suppress(OSError):
                fcntl.lockf(self._shared.file, fcntl.LOCK_UN, 1, _byte_offset(key))
            self._shared.held.discard(key)
            self._own.discard(key)

    def wait_for(self, key: str) -> None:
        """Wait until nobody else holds the key; the caller must hold no lock, or two of them may deadlock."""
        if not self.acquire(key):
            logger.info("waiting for another run to finish the remaining results")
            while not self.acquire(key):
                time.sleep(_PAUSE)
        self.release(key)


def _byte_offset(key: str) -> int:
    """Return the offset of the byte that stands for a key, below 2**56."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])


class BatchScheduler:
    """Computes keys in batches; keys that another process or thread holds come last, when they are mostly finished.

    Args:
        locks: locks on the keys; None if others may compute the same keys.
        load_finished: called with keys that were just locked; returns those which somebody else has finished.
        cost_meter: decides whether the cap allows the next batch.

    Attributes:
        left: number of keys that were not computed because the cap was reached.
    """

    def __init__(
        self, locks: KeyLocks | None, load_finished: Callable[[Sequence[str]], set[str]], cost_meter: CostMeter
    ) -> None:
        self._locks, self._load_finished, self._cost_meter = locks, load_finished, cost_meter
        self._unanswered = 0
        self._held_elsewhere: list[str] = []
        self._over_cap: Sequence[str] = []
        self.left = 0

    def run(
        self, compute: Callable[[Sequence[str]], T], keys: Sequence[str], batch_size: int, workers: int
    ) -> Iterator[tuple[Sequence[str], T]]:
        """Yield each batch of keys with its results; the batch is unlocked when the caller asks for the next one.

        Several rounds may be needed. A round takes the keys that exceeded the cap while calls were unanswered, since
        those calls may have cost less than expected, and the keys that were held elsewhere. When the cap does not
        allow a single batch of a round, the work ends.
        """
        while keys:
            self._over_cap, self._held_elsewhere = [], []
            for batch, results in run_concurrently(compute, self._batches(keys, batch_size), workers):
                yield batch, results
                self._unanswered -= len(batch)
                self._release(batch)
            if len(self._over_cap) == len(keys):
                self.left = len(keys)
                return
            keys = [*self._over_cap, *self._held_elsewhere]
            if self._locks and keys and not self._over_cap:
                self._locks.wait_for(keys[0])

    def _batches(self, keys: Sequence[str], batch_size: int) -> Iterator[Sequence[str]]:
        for number, batch in enumerate(chunks(keys, batch_size)):
            if not self._cost_meter.allows(len(batch), self._unanswered):
                self._over_cap = keys[number * batch_size :]
                return
            if batch := self._acquire(batch):
                self._unanswered += len(batch)
                yield batch

    def _acquire(self, batch: Sequence[str]) -> Sequence[str]:
        """Lock the keys of a batch and return those still to compute.

        Finished keys are looked up under the lock, so that nobody else can finish a key in between.
        """
        if self._locks is None:
            return batch
        locked = [key for key in batch if self._locks.acquire(key)]
        self._held_elsewhere += [key for key in batch if key not in locked]
        finished = self._load_finished(locked)
        self._release(finished)
        return [key for key in locked if key not in finished]

    def _release(self, keys: Iterable[str]) -> None:
        for key in keys:
            if self._locks:
                self._locks.release(key)
