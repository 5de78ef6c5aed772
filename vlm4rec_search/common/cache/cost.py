"""The cost of model calls: tokens, money at the prices of the settings, and the cap that ends a run."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Self

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings

# Tokens of one call before any call was measured: a photo with its prompt, and an answer of 2-3 sentences.
ASSUMED_IN, ASSUMED_OUT = 1500, 120


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens sent (`tokens_in`) and a million tokens answered (`tokens_out`), in one currency."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the prices of the settings."""
        return cls(settings.price_in, settings.price_out)

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """Return the price of a number of tokens."""
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6


@dataclass
class CostMeter:
    """Counts the tokens of a run; several threads may add to it.

    Attributes:
        prices: prices of the tokens.
        cap: the most money that the run may spend; None for no cap.
        tokens_in, tokens_out: tokens counted so far.
        calls: calls that cost tokens.
    """

    prices: Prices = field(default_factory=Prices)
    cap: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings, cap: float | None = None) -> Self:
        """Return a meter with the prices of the settings, and with their cap unless another `cap` is given.

        Raises:
            UsageError: there is a cap, but no price to measure the cost with.
        """
        cap = settings.caption_max_cost if cap is None else cap
        if cap is not None and not settings.price_in and not settings.price_out:
            raise UsageError(
                "a cap on spend needs prices: set VLM4REC_PRICE_IN and VLM4REC_PRICE_OUT, per million tokens"
            )
        return cls(Prices.from_settings(settings), cap)

    def add(self, tokens_in: int, tokens_out: int) -> None:
        """Count the tokens of one call. A call without tokens, such as a server error, does not lower the mean cost."""
        with self._lock:
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out
            self.calls += bool(tokens_in or tokens_out)

    def add_overhead(self, tokens_in: int, tokens_out: int) -> None:
        """Count the tokens of a call that says nothing of what the calls of the run cost."""
        with self._lock:
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out

    @property
    def cost(self) -> float:
        """The money spent so far."""
        return self.prices.cost(self.tokens_in, self.tokens_out)

    def allows(self, calls: int, unanswered: int = 0) -> bool:
        """Return whether the cap has room for more calls, besides the `unanswered` calls in flight.

        A call is expected to cost the mean of the calls so far. Before the first call has cost something, a call is
        expected to cost `ASSUMED_IN` and `ASSUMED_OUT` tokens, and no call may start while another is in flight,
        because all of them may cost far more than assumed.
        """
        if self.cap is None:
            return True
        if not self.calls:
            return not unanswered and self.cost + calls * self.prices.cost(ASSUMED_IN, ASSUMED_OUT) <= self.cap
        return self.cost + (calls + unanswered) * self.cost / self.calls <= self.cap
