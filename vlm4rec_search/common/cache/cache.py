"""Get-or-compute: results of model calls, each paid for once, in a SQLite file outside the warehouse.

The key of a result is a hash of everything that decides it (`result_key`). Results are committed with every batch, so
that a killed run resumes. Failures are stored beside the results with their reason: a run that computes nothing shows
them, a later run tries them again.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from vlm4rec_search.common.cache.cost import CostMeter
from vlm4rec_search.common.cache.scheduler import BatchScheduler, KeyLocks
from vlm4rec_search.common.cache.store import Attempt, Failure, LedgerRow, ResultStore, chunks
from vlm4rec_search.common.errors import RunError, Vlm4recError
from vlm4rec_search.common.progress import Advance, Show, lines

Input = TypeVar("Input")
Value = TypeVar("Value")

LOCK_FILE = "{}.claims"  # of a kind; processes of older versions use the same name
_LOCKED_AT_ONCE = 1000  # the time for a lock grows with the number of locks of the process
Record = Callable[[Mapping[str, bytes], Mapping[str, Failure]], None]


@dataclass(frozen=True)
class Codec(Generic[Value]):
    """Turns a result into the bytes that are stored, and back."""

    encode: Callable[[Value], bytes]
    decode: Callable[[bytes], Value]


RAW: Codec[bytes] = Codec(bytes, bytes)


@dataclass(frozen=True)
class FillPolicy:
    """Which missing results a run computes, and what it may spend.

    Attributes:
        limit: most results to compute, in the order of the keys; None for no limit. With 0 the cache is only read,
            and the ledger gets no row.
        retry_failed: whether keys that failed before are tried again.
        recompute: keys to compute although there is a result; the result stays if the new call fails.
        attempts: the last attempts by key when the keys were selected; a key with a later one counts as finished, where
            keys are locked. By default those when the computation begins.
        origin: name of the run in the ledger: plan, or the command that computes results ahead of a plan.
        cost_meter: counts tokens and enforces the cap on spend; `compute` adds to it.
        show: how progress is shown.
        rows: rows of the ledger by kind and producer, to which calls of `get_or_compute` with the same mapping add; by
            default each call has a row of its own.
    """

    limit: int | None = None
    retry_failed: bool = True
    recompute: Collection[str] = ()
    attempts: Mapping[str, Attempt] | None = None
    origin: str = "plan"
    cost_meter: CostMeter = field(default_factory=CostMeter)
    show: Show = lines
    rows: dict[tuple[str, str], LedgerRow] | None = None


@dataclass(frozen=True)
class Results(Generic[Value]):
    """Values and failures by key; a key in neither was not computed, because of the limit or the cap on spend.

    Attributes:
        values: results by key.
        failures: reasons of failed calls, of this run or an earlier one, for keys without a value.
        new_failures: reasons of the calls that failed now, also for keys that keep an earlier value.
        computed, cached, failed: distinct keys that this run computed, found in the cache, or failed to compute; of all
            calls that share a row of the ledger.
        left: keys that were not computed because the cap on spend was reached.
    """

    values: dict[str, Value] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    new_failures: dict[str, Failure] = field(default_factory=dict)
    computed: int = 0
    cached: int = 0
    failed: int = 0
    left: int = 0


class Cache(ResultStore):
    """Results that are computed where they are missing; several processes may use one folder at once.

    Raises:
        RunError: the file cannot be opened, read or written, now or later.
    """

    def get_or_compute(
        self,
        kind: str,
        producer: str,
        inputs: Mapping[str, Input],
        compute: Callable[[Sequence[Input]], Sequence[Value | Failure]],
        codec: Codec[Value],
        policy: FillPolicy | None = None,
        *,
        batch_size: int = 64,
        workers: int = 1,
        label: str | None = None,
        recorded: bool = True,
        exclusive: bool = False,
    ) -> Results[Value]:
        """Return the result of each key, computing the missing ones batch by batch.

        Args:
            kind: kind of result, such as caption.
            producer: id of the model or function behind `compute`.
            inputs: input of each key.
            compute: turns a batch of inputs into as many results; a result that is a `Failure` is stored as such.
            codec: turns a result into bytes and back.
            policy: which results may be computed; by default all missing ones.
            batch_size: most inputs of one call of `compute`.
            workers: calls of `compute` at once, in threads.
            label: name of the work beside its progress.
            recorded: whether failures are stored and the ledger gets a row, updated with every batch.
            exclusive: whether keys are locked, so that no two processes or threads pay for the same call. A key that
                another one holds or has just finished is not computed. Locking takes 20 microseconds a key.

        Raises:
            RunError: the cache cannot be used, or `compute` returned the wrong number of results.
        """
        policy = policy or FillPolicy()
        attempts = policy.attempts
        if attempts is None:  # read before the results, so that none that comes meanwhile is taken for an earlier one
            attempts = self.attempts(list(inputs)) if exclusive and policy.limit != 0 else {}
        stored = self.read(list(inputs))
        missing = [key for key in inputs if key not in stored or key in policy.recompute]
        failures = self.failures([key for key in missing if key not in stored])
        todo = [key for key in missing if policy.retry_failed or key not in failures][: policy.limit]
        new_failures: dict[str, Failure] = {}
        row = LedgerRow(0, kind, producer, origin=policy.origin)
        if policy.rows is not None:
            row = policy.rows.setdefault((kind, producer), row)
        row.cached += len(inputs) - len(missing)
        row.finished = False
        if recorded and policy.limit != 0 and not row.run:
            self._begin(row)
        with self._explain_errors():
            locks = KeyLocks(self.folder / LOCK_FILE.format(kind)) if exclusive and todo else None
        start = time.monotonic() - row.seconds
        try:
            with policy.show(label or f"{kind} by {producer}", len(todo)) as advance, locks or nullcontext():
                known = _KnownResults(self, row, stored, failures, attempts, advance)
                scheduler = BatchScheduler(locks, known.load_finished, policy.cost_meter)
                for batch, results in scheduler.run(
                    lambda keys: compute([inputs[key] for key in keys]), todo, batch_size, workers
                ):
                    if len(results) != len(batch):
                        counts = f"{len(results)} results for a batch of {len(batch)}"
                        raise RunError(f"{producer} returned {counts}: this is a defect in it")
                    pairs = list(zip(batch, results, strict=True))
                    fresh = {key: codec.encode(result) for key, result in pairs if not isinstance(result, Failure)}
                    failed = {key: result for key, result in pairs if isinstance(result, Failure)}
                    row.computed += len(fresh)
                    row.failed += len(failed)
                    new_failures |= failed
                    self._commit(_measured(row, start, policy.cost_meter), fresh, failed)
                    known.add(fresh, failed)
        except Vlm4recError:
            if row.run:  # what ended the run may have cost tokens, such as the question about a drawn picture
                self._commit(_measured(row, start, policy.cost_meter), {}, {})
            raise
        row.finished = True
        if row.run:  # a run that the ledger does not record has nothing left to write, and waits for no other writer
            self._commit(_measured(row, start, policy.cost_meter), {}, {})
        values = {key: codec.decode(value) for key, value in stored.items()}
        failures = {key: failure for key, failure in failures.items() if key not in stored}
        return Results(values, failures, new_failures, row.computed, row.cached, row.failed, scheduler.left)

    def set_aside(self, kind: str, producer: str, failures: Mapping[str, Failure], origin: str) -> list[str]:
        """Store failures for keys whose results are computed elsewhere, so that no run computes them meanwhile.

        Args:
            kind, producer: as in `get_or_compute`.
            failures: what a run reports of each key.
            origin: name of the command.

        Returns:
            The keys that were set aside. A key that has a result, or that another process computes now, is left out.

        Raises:
            RunError: the cache cannot be used.
        """
        taken: list[str] = []
        with self._explain_errors():
            locks = KeyLocks(self.folder / LOCK_FILE.format(kind))
        with locks:
            for chunk in chunks(list(failures), _LOCKED_AT_ONCE):
                locked = [key for key in chunk if locks.acquire(key)]
                finished = self.read(locked)
                free = [key for key in locked if key not in finished]
                self.put_failures(kind, producer, {key: failures[key] for key in free}, origin)
                taken += free
                for key in locked:
                    locks.release(key)
        return taken

    @contextmanager
    def recording(self, kind: str, producer: str, origin: str, cost_meter: CostMeter) -> Iterator[Record]:
        """Yield a function that stores results and failures which were computed elsewhere, each call in one step.

        The ledger gets a row with the first of them, and none where there are none.

        Raises:
            RunError: the cache cannot be used.
        """
        row, start = LedgerRow(0, kind, producer, origin=origin), time.monotonic()

        def record(results: Mapping[str, bytes], failures: Mapping[str, Failure]) -> None:
            if not results and not failures:
                return
            if not row.run:
                self._begin(row)
            row.computed += len(results)
            row.failed += len(failures)
            self._commit(_measured(row, start, cost_meter), results, failures)

        yield record
        if row.run:
            row.finished = True
            self._commit(_measured(row, start, cost_meter), {}, {})


@dataclass(frozen=True)
class _KnownResults:
    """What a run knows of its keys: stored results, failures, and the last attempts when they were selected."""

    cache: Cache
    row: LedgerRow
    stored: dict[str, bytes]
    failures: dict[str, Failure]
    attempts: Mapping[str, Attempt]
    advance: Advance

    def add(self, results: Mapping[str, bytes], failures: Mapping[str, Failure]) -> None:
        self.stored.update(results)
        self.failures.update(failures)
        self.advance(len(results) + len(failures))

    def load_finished(self, keys: Sequence[str]) -> set[str]:
        """Add the results and failures that somebody else has stored since the selection; return their keys."""
        attempts = self.cache.attempts(keys)
        changed = [key for key, attempt in attempts.items() if self.attempts.get(key) != attempt]
        results, failures = self.cache.read(changed), self.cache.failures(changed)
        self.row.cached += len(results)
        self.stored.update(results)
        self.failures.update(failures)
        self.advance(len(changed))
        return set(changed)


def _measured(row: LedgerRow, start: float, cost_meter: CostMeter) -> LedgerRow:
    """Update time, tokens and cost of a ledger row, and return it."""
    row.seconds = time.monotonic() - start
    row.tokens_in, row.tokens_out, row.cost = cost_meter.tokens_in, cost_meter.tokens_out, cost_meter.cost
    return row
