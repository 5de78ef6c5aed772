"""What a fill of the cache may do, and what it gives back."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import Show, lines
from vlm4rec_search.common.settings import Settings

# What model calls cost: tokens, money at the prices of the settings, and the cap that ends a run.

ASSUMED_IN, ASSUMED_OUT = 1500, 120  # tokens of a photo with its prompt and of 2-3 sentences, until some are counted


@dataclass(frozen=True)
class Prices:
    """Price of a million tokens that are sent and that are answered, in one currency."""

    sent: float = 0.0
    answered: float = 0.0

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """Return the price of so many tokens."""
        return (tokens_in * self.sent + tokens_out * self.answered) / 1e6


@dataclass
class Meter:
    """Counts the tokens of a run; calls in several threads may add to it.

    `cap` is the most money that the run may spend, None for no cap; `calls` are those that cost tokens.
    """

    prices: Prices = field(default_factory=Prices)
    cap: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, tokens_in: int, tokens_out: int) -> None:
        """Count the tokens of one call; one that cost none, such as a server's error, tells nothing of the others."""
        with self._lock:
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out
            self.calls += bool(tokens_in or tokens_out)

    @property
    def cost(self) -> float:
        """What was spent so far."""
        return self.prices.cost(self.tokens_in, self.tokens_out)

    def allows(self, more: int, unanswered: int = 0) -> bool:
        """Say whether the cap has room for more calls beside those that have no answer yet.

        A call is taken to cost the mean of those before it. Until one has cost something, `ASSUMED_IN` and
        `ASSUMED_OUT` tokens are assumed, and nothing goes beside what is unanswered, lest all cost far more.
        """
        if self.cap is None:
            return True
        if not self.calls:
            return not unanswered and more * self.prices.cost(ASSUMED_IN, ASSUMED_OUT) <= self.cap
        return self.cost + (more + unanswered) * self.cost / self.calls <= self.cap


# The meter of a run by the prices and the cap of the settings.


def prices(settings: Settings) -> Prices:
    """Return the prices of the settings."""
    return Prices(settings.price_in, settings.price_out)


def meter(settings: Settings, cap: float | None = None) -> Meter:
    """Return a meter at the settings' prices; `cap` is the most to spend, by default that of the settings.

    Raises:
        UsageError: there is a cap, but no price that it could be measured with.
    """
    most = settings.caption_max_cost if cap is None else cap
    if most is not None and not settings.price_in and not settings.price_out:
        raise UsageError("a cap on spend needs prices: set VLM4REC_PRICE_IN and VLM4REC_PRICE_OUT, per million tokens")
    return Meter(prices(settings), most)


T = TypeVar("T")

Result = bytes | Exception
Compute = Callable[[Sequence[int]], Sequence[Result]]


class EarlierError(Exception):
    """What failed in an earlier run: a word for it (`status`), the reason, and what was answered ("" for nothing)."""

    def __init__(self, status: str, message: str, text: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.text = text

    @classmethod
    def of(cls, error: Exception) -> "EarlierError":
        """Describe an exception; one with a `status` speaks for itself, any other is `failed`."""
        status, text = getattr(error, "status", None), getattr(error, "text", "")
        return cls(status, str(error), text) if status else cls("failed", f"{type(error).__name__}: {error}")


class PendingError(Exception):
    """Not computed yet: it lay outside of what a run was allowed to compute."""


@dataclass(frozen=True)
class Effort:
    """What a fill may do.

    Attributes:
        limit: most results to compute, in the order of the keys; None for no limit.
        failed: whether what failed before is tried again.
        again: keys to compute though there is a result, which stays where the new call fails.
        workers: batches computed at once, in threads.
        origin: who fills, for the ledger: plan, or the command that fills ahead of it.
        meter: counts tokens and says when the money is spent; `compute` adds to it.
        show: how progress is shown.
    """

    limit: int | None = None
    failed: bool = True
    again: Collection[str] = ()
    workers: int = 1
    origin: str = "plan"
    meter: Meter = field(default_factory=Meter)
    show: Show = lines


@dataclass(frozen=True)
class Filled:
    """The results of a fill, one for each key in the caller's order, and the counts of distinct keys.

    `left` counts those that were not computed because the meter allowed no more.
    """

    values: list[Result]
    computed: int
    cached: int
    failed: int
    left: int = 0


def result_key(*parts: str) -> str:
    """Return the sha256 (hex) of the parts as a JSON list, which no two different lists share."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def batches(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the entries in order, at most `size` at a time."""
    return (entries[start : start + size] for start in range(0, len(entries), size))
