"""Live comparison of two variants of an answer: who gets which, and how two lists become one."""

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm4rec_search.search.query import Hit, Query

Arm = Literal["a", "b"]
_STEPS = float(1 << 64)


class Variant(BaseModel):
    """What answers; without both, the live release under its own ranking."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str | None = None
    ranking: str | None = None


class Experiment(BaseModel):
    """Two variants that are compared on real shoppers.

    Attributes:
        a, b: the variants.
        share: of the shoppers who get `b`; with `interleave` all get both.
        method: `split` gives each shopper one of the variants, `interleave` mixes both into each list.
        scenario: only answers of this scenario take part; None for all.
        salt: another one assigns the shoppers anew; None is the name of the experiment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    a: Variant = Variant()
    b: Variant
    share: float = Field(default=0.5, gt=0, lt=1)
    method: Literal["split", "interleave"] = "split"
    scenario: str | None = None
    salt: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.a == self.b:
            raise ValueError("a and b are the same: give one of them another ranking or release")
        return self

    @property
    def releases(self) -> frozenset[str]:
        """The releases that the variants name."""
        return frozenset(each.release for each in (self.a, self.b) if each.release is not None)

    def obstacle(self, live: str, releases: Container[str]) -> str | None:
        """Return why there is nothing to compare, None where there is.

        Args:
            live: the live release.
            releases: that can be opened.
        """
        if gone := [name for name in sorted(self.releases) if name not in releases]:
            return f"the release {gone[0]} is gone or cannot be opened"
        a, b = ((each.release or live, each.ranking) for each in (self.a, self.b))
        return f"a and b are both the release {live}, which is live" if a == b else None

    def arm(self, name: str, user_id: str) -> Arm:
        """Return the variant of a shopper, always the same one."""
        digest = hashlib.sha256(f"{self.salt or name}\N{NULL}{user_id}".encode()).digest()
        return "b" if int.from_bytes(digest[:8]) / _STEPS < self.share else "a"


def experiment_of(
    experiments: Mapping[str, Experiment], scenario: str | None, user_id: str | None
) -> tuple[str, Experiment] | None:
    """Return the first experiment in which a shopper's answer takes part, with its name."""
    if user_id is None:
        return None
    fitting = (pair for pair in experiments.items() if pair[1].scenario in (None, scenario))
    return next(fitting, None)


def team_draft(
    a: Sequence[Hit], b: Sequence[Hit], shown: Collection[str], query: Query, seed: str
) -> list[tuple[Hit, Arm | None]]:
    """Interleave two lists as two captains choose their teams (Radlinski, Kurup, Joachims 2008).

    In each round a coin decides who chooses first; each chooses the best of its list that nobody has chosen. Caps hold
    for the mixed list as for each list alone; what a rule puts first stays before all others, and what it puts last
    behind them. Where only one variant has an item that is pinned, its captain chooses that one first.

    Args:
        a, b: the hits of the variants, best first.
        shown: ids of items of earlier pages, which are not chosen but count for the caps.
        query: its `k`, `per_category` and `collapse`.
        seed: decides the coins.

    Returns:
        Hits with the team that chose them. Once one captain has nothing left to choose, the rest of the other list
        follows without a team: clicks on it say nothing about which list is better.
    """
    caps = _Caps(query)
    for hit in {each.item_id: each for each in (*a, *b) if each.item_id in shown}.values():
        caps.take(hit)
    lists: dict[Arm, list[Hit]] = {"a": list(reversed(a)), "b": list(reversed(b))}
    mixed: list[tuple[Hit, Arm | None]] = []
    for team in _turns(seed):
        for rest in lists.values():
            while rest and not caps.allow(rest[-1]):
                rest.pop()
        are_buried = [rest[-1].standing.buried for rest in lists.values() if rest]
        # Who has only buried hits left may not choose while the other one has better ones.
        if len(mixed) == query.k or are_buried not in ([False, False], [True, True]):
            break
        # Who has no pinned hits left waits while the other one has some.
        are_pinned = {captain: rest[-1].standing.pinned for captain, rest in lists.items()}
        if any(are_pinned.values()) and not are_pinned[team]:
            continue
        hit = lists[team].pop()
        caps.take(hit)
        mixed.append((hit, team))
    for hit in sorted((*lists["a"], *lists["b"]), key=lambda each: (each.standing.buried, each.rank)):
        if len(mixed) < query.k and caps.allow(hit):
            caps.take(hit)
            mixed.append((hit, None))
    return mixed


def _turns(seed: str) -> Iterator[Arm]:
    """Yield who chooses next, without end; a coin decides who is first in each round."""
    coins = random.Random(seed)
    while True:
        yield from ("a", "b") if coins.random() < 0.5 else ("b", "a")


class _Caps:
    """Says which hits a list may still take, so that none comes twice and `per_category` and `collapse` hold."""

    def __init__(self, query: Query) -> None:
        self._per_category = query.per_category
        self._items, self._values = set[str](), set[str]()
        self._categories: Counter[str] = Counter()

    def allow(self, hit: Hit) -> bool:
        """Return whether the list may take a hit; a pinned one only has to be new."""
        if hit.item_id in self._items:
            return False
        full = self._per_category is not None and self._categories[hit.category or ""] >= self._per_category
        return hit.standing.pinned or not (full or hit.standing.value in self._values)

    def take(self, hit: Hit) -> None:
        """Count a hit of the list; one without a category or value counts for no other."""
        self._items.add(hit.item_id)
        if hit.category is not None:
            self._categories[hit.category] += 1
        if hit.standing.value is not None:
            self._values.add(hit.standing.value)
