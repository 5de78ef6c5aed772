"""Live comparison of two variants of an answer: who gets which, and how two lists become one."""

import hashlib
import random
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Arm = Literal["a", "b"]
T = TypeVar("T")
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
    a: Sequence[T], b: Sequence[T], keys: Sequence[Sequence[Hashable]], size: int, seed: str
) -> list[tuple[T, Arm]]:
    """Interleave two lists as two captains choose their teams (Radlinski, Kurup, Joachims 2008).

    In each round a coin decides who chooses first; each chooses the best of its list that nobody has chosen.

    Args:
        a, b: the lists, best first.
        keys: of the elements of each list; equal ones are the same item.
        size: of the list that is returned.
        seed: decides the coins.

    Returns:
        Elements with the team that chose them.
    """
    coins, chosen = random.Random(seed), set[Hashable]()
    lists: dict[Arm, list[tuple[Hashable, T]]] = {
        "a": list(zip(keys[0], a, strict=True)),
        "b": list(zip(keys[1], b, strict=True)),
    }
    mixed: list[tuple[T, Arm]] = []
    while len(mixed) < size and any(lists.values()):
        order: tuple[Arm, Arm] = ("a", "b") if coins.random() < 0.5 else ("b", "a")
        for team in order:
            rest = lists[team]
            while rest and rest[0][0] in chosen:
                rest.pop(0)
            if rest and len(mixed) < size:
                key, element = rest.pop(0)
                chosen.add(key)
                mixed.append((element, team))
    return mixed
