"""Exposure: what the top lists of many shoppers show, taken together. It tells whether a ranking knows its shoppers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil

import numpy as np

from vlm4rec_search.common.vectors import Floats, Ints, Mask, Texts

SAME_FIRST = 0.1  # share of shoppers with the same first hit that is still accepted
UBIQUITOUS = 0.3  # an item in more than this share of the lists is ubiquitous
LEAST_COVERAGE = 0.5  # share of the attainable coverage below which the lists hide too much of the catalogue
FEWEST_SHOPPERS, FEWEST_DOCUMENTS = 10, 30  # below these numbers large shares are chance
EXAMPLES = 5
TORSO = 0.5  # share of the items with interactions, most popular first; all other items are the long tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What the lists of many shoppers show. A share of nothing is 0.

    Attributes:
        shoppers: number of lists with a hit.
        documents: number of items that could be shown.
        first_item: the most frequent first hit; None without any hit.
        same_first: number of shoppers who get it.
        ubiquitous: the items in more than `ubiquitous_above` of the lists, most frequent first.
        hits: number of hits of all lists.
        tail_hits: number of hits that belong to the long tail, see `long_tail`.
        shown: number of items that are in at least one list.
        hidden: a few of the items that are in no list.
        ubiquitous_above: share of the lists above which an item is ubiquitous: `UBIQUITOUS`, and in a small catalogue
            three times the share that every item has where all are shown equally often.
        has_popularity: whether popularity does more in the ranking than break ties.
        is_pinned: whether somebody named the ranking, in place of the one that `vlm4rec index` chooses.
    """

    shoppers: int
    documents: int
    first_item: str | None
    same_first: int
    ubiquitous: tuple[str, ...]
    hits: int
    tail_hits: int
    shown: int
    hidden: tuple[str, ...]
    ubiquitous_above: float = UBIQUITOUS
    has_popularity: bool = False
    is_pinned: bool = False

    @property
    def first_share(self) -> float:
        """Share of the shoppers who get the most frequent first hit."""
        return self.same_first / max(self.shoppers, 1)

    @property
    def tail_share(self) -> float:
        """Share of the hits that belong to the long tail."""
        return self.tail_hits / max(self.hits, 1)

    @property
    def coverage(self) -> float:
        """Share of the documents that are in at least one list."""
        return self.shown / max(self.documents, 1)

    @property
    def attainable(self) -> float:
        """The largest coverage that so many hits allow."""
        return min(1.0, self.hits / max(self.documents, 1))

    @property
    def is_judged(self) -> bool:
        """Whether there are enough shoppers and documents for a verdict."""
        return self.shoppers >= FEWEST_SHOPPERS and self.documents >= FEWEST_DOCUMENTS

    @property
    def is_same_for_many(self) -> bool:
        """Whether too many shoppers get the same first hit."""
        return self.is_judged and self.first_share > SAME_FIRST

    @property
    def is_narrow(self) -> bool:
        """Whether the lists show too little of the catalogue."""
        return self.is_judged and self.coverage < LEAST_COVERAGE * self.attainable

    @property
    def verdict(self) -> str:
        """One line: what the numbers mean, and what to do where something can help."""
        if not self.is_judged:
            return f"too little to judge: {self.shoppers:,} shoppers with a profile, {self.documents:,} documents"
        numbers = (
            f"{self.first_share:.0%} of {self.shoppers:,} shoppers get the same first hit ({self.first_item}), "
            f"{_counted(len(self.ubiquitous))} in more than {self.ubiquitous_above:.0%} of top tens, top tens show "
            f"{self.coverage:.0%} of the documents ({self.attainable:.0%} could be), {self.tail_share:.0%} of hits are "
            "long tail"
        )
        advice = ["lower the weight of popularity"] if self.has_popularity else []
        advice += ["let `vlm4rec index` choose the ranking"] if self.is_pinned else []
        if self.is_narrow:
            advice = ["raise the diversity", *advice]
            return f"the ranking shows too little of the catalogue: {numbers}; {', or '.join(advice)}"
        if self.is_same_for_many:
            return "; ".join(filter(None, (numbers, ", or ".join(advice))))
        return f"the ranking tells shoppers apart: {numbers}"

    def to_json(self) -> dict[str, object]:
        """Return shares, counts and the verdict as plain values."""
        names = ("first_share", "coverage", "attainable", "tail_share")
        shares = {name: round(getattr(self, name), 4) for name in names}
        return asdict(self) | shares | {"is_judged": self.is_judged, "verdict": self.verdict}


def _counted(items: int) -> str:
    return f"{items:,} item is" if items == 1 else f"{items:,} items are"


def measure_exposure(
    lists: Ints, item_ids: Sequence[str] | Texts, popularity: Ints | Floats, documents: int | None = None
) -> Exposure:
    """Return what lists show.

    Args:
        lists: (u, k) rows of items, best first, none twice; negative where a list is shorter.
        item_ids: (n,).
        popularity: (n,), of any unit; 0 for an item without interactions.
        documents: number of items that could be shown; None for all n.
    """
    lists = lists[lists[:, 0] >= 0]
    shoppers, k = lists.shape
    documents = len(item_ids) if documents is None else documents
    hits = lists[lists >= 0]
    audiences = np.bincount(hits, minlength=len(item_ids))
    firsts = np.bincount(lists[:, 0], minlength=len(item_ids))
    first = int(firsts.argmax()) if shoppers else None
    limit = max(UBIQUITOUS, min(3 * k / max(documents, 1), 1.0))
    ubiquitous = np.argsort(-audiences, kind="stable")[: int((audiences > limit * shoppers).sum())]
    hidden = np.flatnonzero(audiences == 0)[:EXAMPLES]
    return Exposure(
        shoppers=shoppers,
        documents=documents,
        first_item=None if first is None else str(item_ids[first]),
        same_first=0 if first is None else int(firsts[first]),
        ubiquitous=tuple(str(item_ids[item]) for item in ubiquitous),
        hits=len(hits),
        tail_hits=int(long_tail(popularity)[hits].sum()),
        shown=int((audiences > 0).sum()),
        hidden=tuple(str(item_ids[item]) for item in hidden),
        ubiquitous_above=limit,
    )


def long_tail(popularity: Ints | Floats) -> Mask:
    """Return which items are outside the most popular half of the items with interactions, bool (n,)."""
    head = np.argsort(-popularity, kind="stable")[: ceil(TORSO * int((popularity > 0).sum()))]
    tail = np.ones(len(popularity), dtype=np.bool_)
    tail[head] = False
    return tail
