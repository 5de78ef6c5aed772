"""What a search asks an index for."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from vlm4rec_search.search.filters import Filter
from vlm4rec_search.search.retrievers import Leg, User


@dataclass(frozen=True, slots=True)
class Request:
    """Legs, conditions that hold inside every leg, and item ids that none may return.

    Attributes:
        user: whose `seen` is part of what is left out, for a server that looks it up; None where nobody's is.
        without: item ids to leave out besides.
        depth: candidates of each leg at most.
        begun: what `Index.begin` has returned for some of the legs; only the index knows what will be in it.
    """

    legs: Sequence[Leg]
    conditions: tuple[Filter, ...]
    user: User | None
    without: Sequence[str]
    depth: int
    begun: Mapping[Leg, Future[Any]] = field(default_factory=dict)
