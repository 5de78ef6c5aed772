"""Content-addressed results of model calls, paid for once, in SQLite (WAL) outside the warehouse.

A result is found again by what made it: the hash of everything that decides it (`result_key`). Results are committed
with every batch, so that a killed run resumes. Failures are kept beside them with their reason, to be shown where
nothing is to be computed; a later run tries them again.
"""

import fcntl
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from vlm4rec_search.common.cache import store
from vlm4rec_search.common.cache.policy import Compute, Effort, Filled, Meter, PendingError, Result, batches, result_key
from vlm4rec_search.common.cache.store import FILE, LedgerRow, Results
from vlm4rec_search.common.concurrency import completed
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import Advance

# Who is at work on which key: no two processes pay for the same model call at the same moment.


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


# Batches of a fill: each key to one process, as far as the money goes.

Finished = Callable[[Sequence[str]], set[str]]
"""From keys to those of them that another process has finished meanwhile."""


class Handout:
    """Hands out positions in `keys` to compute; what another process is at comes last, and mostly is done by then.

    Attributes:
        left: positions that were not handed out because the money was spent.
    """

    def __init__(self, keys: Sequence[str], claims: Claims | None, finished: Finished, meter: Meter) -> None:
        self._keys, self._claims, self._finished, self._meter = keys, claims, finished, meter
        self._unanswered = 0
        self._elsewhere: list[int] = []
        self._rest: Sequence[int] = []
        self.left = 0

    def rounds(self, todo: Sequence[int], size: int) -> Iterator[Iterator[Sequence[int]]]:
        """Yield rounds of batches; a round ends when its batches are answered, before the next begins.

        The next one has what the money did not allow beside unanswered calls, which may have cost less than feared,
        and what another process was at. Where the money allows not one batch, nothing follows.
        """
        while todo:
            self._rest, self._elsewhere, before = [], [], len(todo)
            yield self._batches(todo, size)
            if len(self._rest) == before:
                self.left = before
                return
            todo = [*self._rest, *self._elsewhere]
            if self._elsewhere and self._claims and not self._rest:
                self._claims.wait(self._keys[todo[0]])

    def named(self, batch: Sequence[int], results: Sequence[Result], maker: str) -> dict[str, Result]:
        """Return the results of a batch by key.

        Raises:
            RunError: there are not as many as were asked for.
        """
        if len(results) != len(batch):
            told = f"{len(results)} results for a batch of {len(batch)}"
            raise RunError(f"{maker} returned {told}: this is a defect in it")
        return dict(zip((self._keys[position] for position in batch), results, strict=True))

    def answered(self, batch: Sequence[int]) -> None:
        """Let go of a batch whose results are kept."""
        self._unanswered -= len(batch)
        self._release(batch)

    def _batches(self, todo: Sequence[int], size: int) -> Iterator[Sequence[int]]:
        for start, batch in zip(range(0, len(todo), size), batches(todo, size), strict=True):
            if not self._meter.allows(len(batch), self._unanswered):
                self._rest = todo[start:]
                return
            if ours := self._claimed(batch):
                self._unanswered += len(ours)
                yield ours

    def _claimed(self, batch: Sequence[int]) -> Sequence[int]:
        """Return what of a batch is ours, and not finished; looked up under the claim, so that nobody comes between."""
        if self._claims is None:
            return batch
        ours = [position for position in batch if self._claims.take(self._keys[position])]
        self._elsewhere += [position for position in batch if position not in ours]
        finished = self._finished([self._keys[position] for position in ours])
        self._release([position for position in ours if self._keys[position] in finished])
        return [position for position in ours if self._keys[position] not in finished]

    def _release(self, batch: Sequence[int]) -> None:
        for position in batch:
            if self._claims:
                self._claims.give(self._keys[position])


__all__ = ["FILE", "Cache", "Filled", "LedgerRow", "Result", "result_key"]

CLAIMS = "{}.claims"


class Cache(Results):
    """Results that are computed where they are missing; several processes may use one folder at once.

    Raises:
        RunError: the file cannot be opened, read or written, now or later.
    """

    def fill(
        self,
        kind: str,
        maker: str,
        keys: Sequence[str],
        compute: Compute,
        *,
        batch_size: int = 64,
        label: str | None = None,
        recorded: bool = True,
        paid: bool = False,
        effort: Effort | None = None,
    ) -> Filled:
        """Return a result for each key, computing the missing ones once each, batch by batch.

        `compute` gets positions in `keys` (at most `batch_size`, one for each missing key) and returns as many
        results; an exception among them is a failure. What `effort` leaves out is an exception, too: `EarlierError`
        where it failed before, else `PendingError`. Only a `recorded` fill keeps failures and gets a row in the
        ledger, which is brought up to date with every batch. A `paid` one computes nothing that another process is at
        or has finished meanwhile, which takes 20 microseconds for each key.

        Raises:
            RunError: the cache cannot be used, or `compute` returned the wrong number of results.
        """
        effort = effort or Effort()
        known, todo, found = self._known(keys, effort)
        tried = self.tried([keys[position] for position in todo]) if paid else {}
        row = LedgerRow(0, kind, maker, cached=found)
        with self._explained():
            row = store.begin(self._db, kind, maker, effort.origin, found) if recorded else row
            claims = Claims(self.folder / CLAIMS.format(kind)) if paid and todo else None
        start = time.monotonic()
        with effort.show(label or f"{kind} by {maker}", len(todo)) as advance, claims or nullcontext():
            work = Handout(keys, claims, lambda asked: self._finished(asked, known, tried, row, advance), effort.meter)
            for tasks in work.rounds(todo, batch_size):
                for batch, results in completed(compute, tasks, effort.workers):
                    fresh = work.named(batch, results, maker)
                    self._commit(row, fresh, time.monotonic() - start, effort)
                    work.answered(batch)
                    known.update((k, v) for k, v in fresh.items() if not _worse(v, known.get(k)))
                    advance(len(batch))
        row.finished = True
        self._commit(row, {}, time.monotonic() - start, effort)
        values = [known.get(key, PendingError("not computed yet")) for key in keys]
        return Filled(values, row.computed, row.cached, row.failed, work.left)

    def _finished(
        self, keys: Sequence[str], known: dict[str, Result], tried: dict[str, int], row: LedgerRow, advance: Advance
    ) -> set[str]:
        """Add to `known` what another process has finished since these keys were looked up, and return which ones.

        A failure is new when it has another number than in `tried`.
        """
        found = {key: value for key, value in self.read(keys) if known.get(key) != value}
        row.cached += len(found)
        now = self.tried([key for key in keys if key not in found])
        failed = dict(self.failures([key for key, number in now.items() if tried.get(key) != number]))
        known.update(found)
        known.update(failed)
        advance(len(found) + len(failed))
        return found.keys() | failed.keys()

    def _known(self, keys: Sequence[str], effort: Effort) -> tuple[dict[str, Result], list[int], int]:
        """Return results and failures by key, the positions to compute, and how many results need no computing."""
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        known: dict[str, Result] = dict(self.read(list(first)))
        missing = [key for key in first if key not in known or key in effort.again]
        failures = dict(self.failures([key for key in missing if key not in known]))
        todo = [first[key] for key in missing if effort.failed or key not in failures]
        return known | failures, todo[: effort.limit], len(first) - len(missing)


def _worse(new: Result, old: Result | None) -> bool:
    """Say whether a result is a failure in the place of an answer, which stays."""
    return isinstance(old, bytes) and not isinstance(new, bytes)
