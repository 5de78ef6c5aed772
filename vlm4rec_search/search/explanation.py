"""Why a hit is there: what each leg gave, which history items and words that came from, and one sentence."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vlm4rec_search.search.fusion import Floats
from vlm4rec_search.search.model import Leg, Plan, Ranked
from vlm4rec_search.search.query import Explanation, HistoryPart, LegPart, Query, WordPart

if TYPE_CHECKING:
    from vlm4rec_search.search.backend import Found, Index


SHOWN = 3
TASTES = ("profile", "interest", "session")  # semantic legs that come from a history


def history_shares(
    vectors: npt.NDArray[np.float32], weights: npt.NDArray[np.float64], document: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return w_i v_i . d for each history item i; since the profile is the sum of w_i v_i, they add up to profile . d.

    Args:
        vectors: (h, d), the history's item vectors.
        weights: (h,), their weights in the unit profile vector.
        document: (d,), the vector of the hit.
    """
    shares: npt.NDArray[np.float64] = weights * (vectors.astype(np.float64) @ document.astype(np.float64))
    return shares


def word_parts(shares: Mapping[str, float]) -> tuple[WordPart, ...]:
    """Return the words that matched, largest share first."""
    ordered = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(WordPart(word, share) for word, share in ordered if share > 0.0)


def explain(
    legs: Sequence[LegPart],
    history: Sequence[HistoryPart],
    words: tuple[WordPart, ...],
    bought_with: Sequence[HistoryPart] = (),
    text: str | None = None,
    rules: tuple[str, ...] = (),
) -> Explanation:
    """Return the explanation of a hit from its parts.

    Args:
        legs: every leg of the query.
        history: all history items with their shares of the semantic leg of the taste; the three with the largest
            shares are kept, the others summed up.
        words: the matched words.
        bought_with: all items from which the co-purchase leg comes, likewise.
        text: the text that was searched for.
        rules: what rules, diversity and caps did to the hit after fusion.
    """
    score = max((leg.score for leg in legs if leg.name in TASTES), default=0.0)
    bought = sum(leg.score for leg in legs if leg.kind == "behaviour")
    shown, sold = _largest(history), _largest(bought_with)
    sentence = _sentence(legs, _resembles(shown, score), _words(words), _bought(sold), text, rules)
    rest, bought_rest = (round(total - sum(part.share for part in parts), 6)
                         for total, parts in ((score, shown), (bought, sold)))  # fmt: skip
    return Explanation(sentence, tuple(legs), shown, rest, words, sold, bought_rest, rules)


def _largest(parts: Sequence[HistoryPart]) -> tuple[HistoryPart, ...]:
    ordered = sorted(parts, key=lambda part: (-part.share, part.item_id))[:SHOWN]
    return tuple(part for part in ordered if part.share > 0.0)


def _sentence(
    legs: Sequence[LegPart], taste: str, words: str, bought: str, text: str | None, rules: Sequence[str]
) -> str:
    meaning = next((leg.score for leg in legs if leg.name == "text"), 0.0)
    near = f'is near "{text}" in meaning ({meaning:.2f})' if meaning > 0.0 else ""
    # Below the point stands what is older (`tables.FILL_BEHAVIOUR`): it is no interaction of its own.
    popular = max((leg.score for leg in legs if leg.kind == "popularity"), default=0.0)
    liked = f"is popular ({int(popular):,} interactions)" if popular >= 1.0 else ""
    reasons = [reason for reason in (taste, near, words, bought, liked, *rules) if reason]
    sentence = "; ".join(reasons) or "is among the nearest that there are"
    return sentence[0].upper() + sentence[1:] + "."


def _resembles(history: Sequence[HistoryPart], score: float) -> str:
    if not history or score <= 0.0:
        return ""
    names = [f'"{part.title}" ({part.share / score:.0%})' for part in history]
    return f"resembles {_list(names)} of the history"


def _words(words: Sequence[WordPart]) -> str:
    noun = "word" if len(words) == 1 else "words"
    return f"shares the {noun} {_list([part.word for part in words[:5]])}" if words else ""


def _bought(parts: Sequence[HistoryPart]) -> str:
    names = [f'"{part.title}"' for part in parts]
    return f"is bought by those who bought {_list(names)}" if names else ""


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# Gathers what explains the hits of one answer: each leg's score, shares of history items, words, co-purchases.


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
