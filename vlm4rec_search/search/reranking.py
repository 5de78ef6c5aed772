"""What happens to the fused ranking before it is an answer: rules of the business, caps, diversity, the first k."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vlm4rec_search.search.fusion import Floats, Fused, Integers
from vlm4rec_search.search.model import PINNED, Ranked
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.rules import Rule

if TYPE_CHECKING:
    from vlm4rec_search.search.backend import Found, Index
    from vlm4rec_search.search.model import Record

POOL = 5  # candidates that diversity chooses among, for each hit


def rerank(index: "Index", found: "Found", fused: Fused, query: Query) -> Ranked:
    """Return the first k of a fused ranking, after the rules, the cap of each category and diversity.

    Pinned items come first, whatever their category, buried ones last; diversity chooses among those between them.
    """
    table = _Table(found, fused, index.rules)
    rows, last = table.between, table.buried
    plain = np.concatenate([table.pinned, rows, last])
    if query.per_category:
        every = np.concatenate([rows, last])
        kept = _capped(found.records(table.documents[every]), every, query.per_category)
        buried = np.isin(kept, last)
        rows, last = kept[~buried], kept[buried]
    diversity = index.ranking.diversity if query.diversity is None else query.diversity
    if diversity and len(rows):
        rows = rows[: query.k * POOL]
        chosen, penalties = diversify(found.vectors(table.documents[rows]), table.scores[rows], diversity, query.k)
        rows = rows[chosen]
        table.note_penalties(rows, penalties)
    rows = np.concatenate([table.pinned, rows, last]).astype(np.int64)[: query.k]
    if query.per_category or diversity:
        table.note_places(rows, plain)
    documents = table.documents[rows]
    notes = [tuple(table.notes.get(int(row), ())) for row in rows]
    return Ranked(documents, table.scores[rows], table.contributions[rows], found.records(documents), notes)


class _Table:
    """The fused documents and pinned ones beside them, with what the rules say of their rows.

    Attributes:
        pinned, between, buried: rows, in the order of the answer; dropped ones are in none of them.
    """

    def __init__(self, found: "Found", fused: Fused, rules: Sequence[Rule]) -> None:
        self.documents, self.scores, self.contributions = fused.documents, fused.scores, fused.contributions
        self.notes: dict[int, list[str]] = {}
        self.pinned = self.buried = np.empty(0, dtype=np.int64)
        self.between = np.arange(len(fused.documents))
        if rules:
            self._judge(found, rules)

    def _judge(self, found: "Found", rules: Sequence[Rule]) -> None:
        """Add what is pinned, and divide the rows."""
        pins = next((leg.documents for leg in found.candidates if leg.name == PINNED), self.documents[:0])
        extra = pins[~np.isin(pins, self.documents)]
        self.documents = np.concatenate([self.documents, extra])
        self.scores = np.concatenate([self.scores, np.zeros(len(extra))])
        self.contributions = np.vstack([self.contributions, np.zeros((len(extra), self.contributions.shape[1]))])
        self.pinned = np.array([np.flatnonzero(self.documents == document)[0] for document in pins], dtype=np.int64)
        gone, buried = self._apply(found, rules)
        order = np.argsort(-self.scores.round(12), kind="stable")
        free = order[~np.isin(order, self.pinned) & ~gone[order]]
        self.pinned = self.pinned[~gone[self.pinned]]
        self.between, self.buried = free[~buried[free]], free[buried[free]]

    def note_penalties(self, rows: Integers, penalties: Floats) -> None:
        """Note what likeness to the hits above has cost."""
        for row, penalty in zip(rows.tolist(), penalties.tolist(), strict=True):
            if round(penalty, 4) > 0.0:
                self.notes.setdefault(row, []).append(f"loses {penalty:.4f} to diversity for likeness to a hit above")

    def note_places(self, rows: Integers, plain: Integers) -> None:
        """Note where a hit stood before diversity and caps, where that is another place."""
        before = {row: place for place, row in enumerate(plain.tolist())}
        for place, row in enumerate(rows.tolist()):
            if before[row] != place:
                self.notes.setdefault(row, []).append(f"stood at {before[row] + 1} before diversity and caps")

    def _apply(self, found: "Found", rules: Sequence[Rule]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Boost scores, write notes, and return which rows are dropped and which are buried."""
        facets = found.facets(self.documents)
        ids = [record["item_id"] for record in found.records(self.documents)]
        gone, buried = (np.zeros(len(ids), dtype=np.bool_) for _ in range(2))
        for rule in rules:
            for row in [row for row, item in enumerate(ids) if rule.holds(item, facets[row])]:
                gone[row] |= rule.action == "drop"
                buried[row] |= rule.action == "bury"
                self.scores[row] += abs(self.scores[row]) * (rule.factor - 1.0)
                self.notes.setdefault(row, []).append(rule.note)
        return gone, buried


def _capped(records: "Sequence[Record]", rows: Integers, most: int) -> Integers:
    """Return the first rows of each category; those without a category are not counted."""
    counts: Counter[str] = Counter()
    kept = []
    for row, record in zip(rows, records, strict=True):
        category = record["category"]
        if category is not None:
            counts[category] += 1
        if category is None or counts[category] <= most:
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def diversify(vectors: npt.NDArray[np.float32], scores: Floats, diversity: float, k: int) -> tuple[Integers, Floats]:
    """Return the places of k candidates by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    The next one maximises (1 - diversity) x relevance - diversity x largest cosine with those chosen; relevance is
    the score scaled to 0..1 over the candidates. Beside the places stands what each was docked, the second term.

    Args:
        vectors: unit rows (b, d).
        scores: (b,), b at least 1.
        diversity: 0 keeps the order, 1 ignores the scores.
        k: how many at most.
    """
    span = scores.max() - scores.min()
    relevance = (scores - scores.min()) / span if span else np.ones(len(scores))
    nearest = np.zeros(len(scores))
    left = np.ones(len(scores), dtype=np.bool_)
    chosen: list[int] = []
    penalties: list[float] = []
    for _ in range(min(k, len(scores))):
        gains = np.where(left, (1.0 - diversity) * relevance - diversity * nearest, -np.inf)
        best = int(np.argmax(gains.round(6)))
        chosen.append(best)
        penalties.append(diversity * float(nearest[best]))
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return np.array(chosen, dtype=np.int64), np.array(penalties)
