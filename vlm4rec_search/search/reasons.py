"""Gathers what explains the hits of one answer: each leg's score, shares of history items, words, co-purchases."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vlm4rec_search.search.explanation import (
    TASTES,
    Explanation,
    HistoryPart,
    LegPart,
    explain,
    history_shares,
    word_parts,
)
from vlm4rec_search.search.fusion import Floats
from vlm4rec_search.search.planning import Plan
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.reranking import Ranked
from vlm4rec_search.search.retrievers import Leg

if TYPE_CHECKING:
    from vlm4rec_search.search.backend import Found, Index


class Reasons:
    """Explains the hits of one answer."""

    def __init__(self, index: "Index", query: Query, plan: Plan, found: "Found") -> None:
        self._query, self._plan, self._found = query, plan, found
        self._tastes = [place for place, leg in enumerate(plan.legs) if leg.name in TASTES]
        wanted = {item for place in self._tastes for item in self._made_of(plan.legs[place])}
        self._history = index.items(sorted(wanted)) if wanted else {}
        self._ranks = [{int(document): rank for rank, document in enumerate(leg.documents, 1)}
                       for leg in found.candidates]  # fmt: skip

    def of(self, ranked: Ranked) -> list[Explanation]:
        """Return why each hit is there."""
        scores, words = self._found.scores(ranked.documents), self._found.words(ranked.documents)
        vectors = self._found.vectors(ranked.documents)
        bought = [place for place, leg in enumerate(self._plan.legs) if leg.name == "co-purchase"]
        behaviour = scores[:, bought].sum(axis=1) > 0.0
        return [
            explain(
                self._legs(int(document), scores[row], ranked.contributions[row]),
                self._shares(scores[row], vectors[row]),
                word_parts(words[row]),
                self._bought_with(ranked.records[row]["item_id"]) if behaviour[row] else [],
                self._query.text,
                ranked.notes[row],
            )
            for row, document in enumerate(ranked.documents)
        ]

    def _legs(self, document: int, scores: Floats, added: Floats) -> list[LegPart]:
        parts = zip(self._plan.legs, self._plan.weights, scores, self._ranks, added, strict=True)
        return [LegPart(leg.name, leg.kind, round(float(score), 6), ranks.get(document), float(contribution))
                for leg, weight, score, ranks, contribution in parts if weight > 0]  # fmt: skip

    def _made_of(self, leg: Leg) -> Mapping[str, float]:
        """Return the items that a semantic leg of the taste is the sum of; an interest's weights lack a factor."""
        user = self._plan.session if leg.name == "session" else self._plan.user
        history = user.history if user else {}
        return {item: history.get(item, 1.0) for item in leg.sources} if leg.sources else history

    def _shares(self, scores: Floats, vector: npt.NDArray[np.float32]) -> list[HistoryPart]:
        """Return the shares of the semantic leg of the taste that is nearest to the hit."""
        if not self._tastes:
            return []
        leg = self._plan.legs[max(self._tastes, key=lambda place: float(scores[place]))]
        known = [(self._history[item], weight) for item, weight in self._made_of(leg).items() if item in self._history]
        if not known:
            return []
        rows, weights = np.stack([item.vector for item, _ in known]), np.array([weight for _, weight in known])
        if leg.sources:
            weights /= np.linalg.norm(weights @ rows.astype(np.float64))
        shares = history_shares(rows, weights, vector)
        return [HistoryPart(item.item_id, item.title, float(share))
                for (item, _), share in zip(known, shares, strict=True)]  # fmt: skip

    def _bought_with(self, item_id: str) -> list[HistoryPart]:
        shares: dict[str, float] = {}  # what stands in the history and in the session is told once
        for user in (self._plan.user, self._plan.session):
            for start, weight in user.behaviour.items() if user else ():
                source = self._plan.sources.get(start)
                if source is not None and item_id in source.neighbours:
                    shares[start] = shares.get(start, 0.0) + weight * source.neighbours[item_id]
        return [HistoryPart(start, self._plan.sources[start].title, share) for start, share in shares.items()]
