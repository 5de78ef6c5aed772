"""Content-addressed results of model calls, paid for once, in SQLite (WAL) outside the warehouse.

A result is found again by what made it: the hash of everything that decides it (`result_key`). Results are committed
with every batch, so that a killed run resumes. Failures are kept beside them with their reason, to be shown where
nothing is to be computed; a later run tries them again.
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext

from vlm4rec_search.common.cache import ledger
from vlm4rec_search.common.cache.claims import Claims
from vlm4rec_search.common.cache.handout import Handout
from vlm4rec_search.common.cache.ledger import LedgerRow
from vlm4rec_search.common.cache.policy import Compute, Effort, Filled, PendingError, Result, result_key
from vlm4rec_search.common.cache.store import FILE, Results
from vlm4rec_search.common.concurrency import completed
from vlm4rec_search.common.progress import Advance

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
            row = ledger.begin(self._db, kind, maker, effort.origin, found) if recorded else row
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
