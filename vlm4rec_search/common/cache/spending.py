"""What model calls cost: tokens, money at the prices of the settings, and the cap that ends a run."""

from dataclasses import dataclass, field
from threading import Lock

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
