"""What happens to the fused ranking before it is shown: business rules, caps, diversity, the first k."""

from collections import Counter
from collections.abc import Sequence, Set

import numpy as np

from vlm4rec_search.common.vectors import Floats, Ints, Mask, Vectors
from vlm4rec_search.search.backend import Retrieved
from vlm4rec_search.search.fusion import Fused
from vlm4rec_search.search.model import PINNED, Plan, Ranked
from vlm4rec_search.search.query import Standing
from vlm4rec_search.search.rules import Rule

POOL = 5  # diversity chooses hit n among the first 5 n candidates
FIRST_POOL = 50  # and the first hits among this many, whatever k is


def rerank(retrieved: Retrieved, fused: Fused, plan: Plan) -> Ranked:
    """Return the first k of a fused ranking, after the minimum score, rules, `collapse`, `per_category`, and diversity.

    Pinned items come first, whatever their values and score, and count for both caps; buried items come last, and
    diversity orders those in between. A larger k adds hits at the end and leaves the first ones as they are, if the
    fused ranking is the same: a k above the depth retrieves more candidates, and the fusion scales scores and counts
    ranks over all of them.
    """
    query = plan.query
    table = _Table(retrieved, fused, plan.rules)
    between, buried = table.between, table.buried
    if plan.min_score is not None:
        between, buried = (rows[table.scores[rows] >= plan.min_score] for rows in (between, buried))
    before = np.concatenate([table.pinned, between, buried])
    counts = _count_values(retrieved, table.documents[before], query.count)
    # Collapsed first: what `collapse` leaves out must not take the place of another hit in its category.
    caps = [(query.collapse or "", 1), ("category", query.per_category or 0)]
    collapsed: dict[int, str | None] = {}
    for field, cap in [each for each in caps if all(each)]:
        rows = np.concatenate([table.pinned, between, buried])
        values = _first_values(retrieved, table.documents[rows], field)
        if field == query.collapse:
            collapsed = dict(zip(rows.tolist(), values, strict=True))
        capped = _cap_values(values, rows, cap, len(table.pinned))
        between, buried = between[np.isin(between, capped)], buried[np.isin(buried, capped)]
    if plan.diversity and len(between):
        pool = between[: max(FIRST_POOL, query.k * POOL)]
        vectors = retrieved.vectors(table.documents[pool])
        order, penalties = diversify(vectors, table.scores[pool], plan.diversity, query.k)
        between = pool[order]
        table.note_penalties(between, penalties)
    rows = np.concatenate([table.pinned, between, buried]).astype(np.int64)[: query.k]
    if query.per_category or query.collapse or plan.diversity:
        table.note_ranks(rows, before)
    documents = table.documents[rows]
    notes = [tuple(table.notes.get(int(row), ())) for row in rows]
    records = retrieved.records(documents)
    contributions = table.contributions[rows]
    pinned, last = np.isin(rows, table.pinned).tolist(), np.isin(rows, table.buried).tolist()
    standings = list(map(Standing, pinned, last, map(collapsed.get, rows.tolist())))
    return Ranked(documents, table.scores[rows], contributions, records, notes, counts, table.dropped_by, standings)


class _Table:
    """The fused documents and the pinned ones, one row each, and what the rules did to them.

    Attributes:
        pinned, between, buried: rows, in the order of the answer; dropped documents are in none of them.
        notes: by row, what was done to it, in words.
        dropped_by: the rules that dropped documents.
    """

    def __init__(self, retrieved: Retrieved, fused: Fused, rules: Sequence[Rule]) -> None:
        self.documents, self.scores, self.contributions = fused.documents, fused.scores, fused.contributions
        self.notes: dict[int, list[str]] = {}
        self.dropped_by: list[Rule] = []
        self.pinned = self.buried = np.empty(0, dtype=np.int64)
        self.between = np.arange(len(fused.documents))
        if rules:
            self._apply(retrieved, rules)

    def _apply(self, retrieved: Retrieved, rules: Sequence[Rule]) -> None:
        """Add the pinned documents that no retriever found, and divide the rows."""
        empty = self.documents[:0]
        pins = next((each.documents for each in retrieved.candidates if each.name == PINNED), empty)
        extra = pins[~np.isin(pins, self.documents)]
        self.documents = np.concatenate([self.documents, extra])
        self.scores = np.concatenate([self.scores, np.zeros(len(extra))])
        self.contributions = np.vstack([self.contributions, np.zeros((len(extra), self.contributions.shape[1]))])
        pinned = np.array([np.flatnonzero(self.documents == document)[0] for document in pins], dtype=np.int64)
        dropped, buried = self._match(retrieved, rules, set(pinned.tolist()))
        order = np.argsort(-self.scores.round(12), kind="stable")
        free = order[~np.isin(order, pinned) & ~dropped[order]]
        self.pinned = pinned[~dropped[pinned]]
        self.between, self.buried = free[~buried[free]], free[buried[free]]

    def _match(self, retrieved: Retrieved, rules: Sequence[Rule], pinned: Set[int]) -> tuple[Mask, Mask]:
        """Boost scores, write notes, and return which rows are dropped and which are buried; no pinned one is."""
        ids = retrieved.ids(self.documents)
        has_filter = any(rule.filter is not None for rule in rules)
        facets = retrieved.facets(self.documents) if has_filter else [{}] * len(ids)  # they are slow to read
        dropped, buried = np.zeros(len(ids), dtype=np.bool_), np.zeros(len(ids), dtype=np.bool_)
        for rule in rules:
            matching = [row for row, item in enumerate(ids) if rule.matches(item, facets[row])]
            if matching and rule.action == "drop":
                self.dropped_by.append(rule)
            for row in matching:
                if rule.action == "bury" and row in pinned:
                    continue
                dropped[row] |= rule.action == "drop"
                buried[row] |= rule.action == "bury"
                self.scores[row] += abs(self.scores[row]) * (rule.factor - 1.0)
                self.notes.setdefault(row, []).append(rule.note)
        return dropped, buried

    def note_penalties(self, rows: Ints, penalties: Floats) -> None:
        """Note what likeness to the hits above has cost each row."""
        for row, penalty in zip(rows.tolist(), penalties.tolist(), strict=True):
            if round(penalty, 4) > 0.0:
                self.notes.setdefault(row, []).append(f"counts {penalty:.4f} less for likeness to a hit above")

    def note_ranks(self, rows: Ints, before: Ints) -> None:
        """Note the rank that a row had before diversity and category caps, where it has changed."""
        ranks = {row: rank for rank, row in enumerate(before.tolist())}
        for rank, row in enumerate(rows.tolist()):
            if ranks[row] != rank:
                self.notes.setdefault(row, []).append(f"was hit {ranks[row] + 1} before diversity and caps")


def _first_values(retrieved: Retrieved, documents: Ints, field: str) -> list[str | None]:
    """Return the value of a field of each document, the first of a list."""
    if field == "category":  # hits show it anyway
        return [record["category"] for record in retrieved.records(documents)]
    return [next(iter(each.get(field, ())), None) for each in retrieved.facets(documents)]


def _cap_values(values: Sequence[str | None], rows: Ints, cap: int, pinned: int) -> Ints:
    """Return the first rows of each value, and all of the first `pinned`; rows without a value are not counted."""
    counts: Counter[str] = Counter()
    capped = []
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        if value is not None:
            counts[value] += 1
        if value is None or counts[value] <= cap or place < pinned:
            capped.append(row)
    return np.array(capped, dtype=np.int64)


def _count_values(retrieved: Retrieved, documents: Ints, fields: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many documents have each value of each field, most frequent values first."""
    if not fields:
        return {}
    facets = retrieved.facets(documents)
    counters = {name: Counter(value for each in facets for value in each.get(name, ())) for name in fields}
    return {
        name: dict(sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))) for name, counter in counters.items()
    }


def diversify(vectors: Vectors, scores: Floats, diversity: float, k: int) -> tuple[Ints, Floats]:
    """Choose k candidates by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    The next candidate maximises (1 - diversity) x relevance - diversity x largest cosine with a chosen one. Relevance
    is the score, scaled so that the first `FIRST_POOL` candidates have 0..1. Neither the scale nor the candidates for a
    rank depend on k, so that the first choices are the same for every k.

    Args:
        vectors: unit rows (b, d).
        scores: (b,), b at least 1, in descending order.
        diversity: 0 keeps the order, 1 ignores the scores.
        k: the most candidates to choose.

    Returns:
        The rows of the chosen candidates in order, and the penalty of each: the second term.
    """
    low = scores[:FIRST_POOL].min()
    span = scores[:FIRST_POOL].max() - low
    relevance = (scores - low) / span if span else (scores >= low).astype(np.float64)
    nearest = np.zeros(len(scores))
    left = np.ones(len(scores), dtype=np.bool_)
    chosen: list[int] = []
    penalties: list[float] = []
    for rank in range(1, min(k, len(scores)) + 1):
        pool = slice(max(FIRST_POOL, rank * POOL))
        gains = np.where(left[pool], (1.0 - diversity) * relevance[pool] - diversity * nearest[pool], -np.inf)
        best = int(np.argmax(gains.round(6)))
        chosen.append(best)
        penalties.append(diversity * float(nearest[best]))
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return np.array(chosen, dtype=np.int64), np.array(penalties)
