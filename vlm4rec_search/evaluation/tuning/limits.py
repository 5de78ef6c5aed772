"""The limits of a chosen ranking: how many shoppers see the same first hit, and how much of the shop top tens show."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from vlm4rec_search.common.vectors import Ints
from vlm4rec_search.evaluation.data import Split
from vlm4rec_search.search.exposure import measure_exposure

# A little stricter than what is promised, a tenth and four fifths, since the tables that are published are newer.
LARGEST_FIRST = 0.08  # share of the shoppers who may see the same first hit
COVERAGE = 0.85  # of the documents that the first ten hits of all shoppers would cover if they were drawn at random
WORTH = 0.1  # share of nDCG@10 that each of the two may cost

Limit = Literal["first", "coverage"]


class Missing(NamedTuple):
    """By how much each limit is broken, 0 where it holds; or how much of that is allowed."""

    first: float
    coverage: float


@dataclass(frozen=True)
class LimitCheck:
    """What top tens show, against the limits.

    Attributes:
        first: share of the shoppers whose first hit is the most frequent one.
        coverage: share of the documents in any top ten.
        wanted: coverage that is asked for.
        is_judged: whether there are enough shoppers and documents for limits.
    """

    first: float
    coverage: float
    wanted: float
    is_judged: bool = True

    @property
    def missing(self) -> Missing:
        """By how much each limit is broken."""
        if not self.is_judged:
            return Missing(0.0, 0.0)
        return Missing(max(0.0, self.first - LARGEST_FIRST), max(0.0, self.wanted - self.coverage))

    def is_within(self, allowed: Missing) -> bool:
        """Return whether no limit is broken by more."""
        return all(own <= few for own, few in zip(self.missing, allowed, strict=True))


class Price(NamedTuple):
    """What a limit costs: a share of nDCG@10, and whether it is paid, for all or for a part of the way."""

    cost: float
    is_paid: bool


def check_limits(shown: Ints, split: Split) -> LimitCheck:
    """Compare what top tens, int64 (u, 10), show together with the limits."""
    measured = measure_exposure(shown, split.catalogue.item_ids, split.popularity)
    # Drawn at random, s slots cover 1 - exp(-s / n) of n documents.
    reachable = 1.0 - np.exp(-shown.size / max(measured.documents, 1))
    return LimitCheck(measured.first_share, measured.coverage, float(COVERAGE * reachable), measured.is_judged)
