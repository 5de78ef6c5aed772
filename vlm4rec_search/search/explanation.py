"""Why a hit is in the answer: the part of every retriever, of history items and words, and one sentence."""

from collections.abc import Mapping, Sequence

import numpy as np

from vlm4rec_search.common.vectors import Floats, Vectors
from vlm4rec_search.search.backend import Reader, Retrieved
from vlm4rec_search.search.model import Facts, Plan, Ranked, Retriever, User, Vector
from vlm4rec_search.search.query import Explanation, HistoryPart, RetrieverPart, WordPart

SHOWN = 3  # history items that an explanation names
FROM_HISTORY = ("profile", "interest", "session")  # semantic retrievers whose vector is a sum over history items


class Explainer:
    """Explains the hits of one answer."""

    def __init__(self, reader: Reader, facts: Facts, plan: Plan, retrieved: Retrieved) -> None:
        self._facts, self._plan, self._retrieved = facts, plan, retrieved
        self._from_history = [
            column for column, retriever in enumerate(plan.retrievers) if retriever.name in FROM_HISTORY
        ]
        used = {item for column in self._from_history for item in self._history_weights(plan.retrievers[column])}
        self._history = reader.items(sorted(used)) if used else {}
        self._ranks = [
            {int(document): rank for rank, document in enumerate(each.documents, 1)} for each in retrieved.candidates
        ]

    def explain(self, ranked: Ranked) -> list[Explanation]:
        """Return the explanation of each hit."""
        scores, words = self._retrieved.scores(ranked.documents), self._retrieved.words(ranked.documents)
        vectors = self._retrieved.vectors(ranked.documents)
        columns = [column for column, each in enumerate(self._plan.retrievers) if each.name == "co-purchase"]
        is_co_purchase = scores[:, columns].sum(axis=1) > 0.0
        return [
            build_explanation(
                self._retriever_parts(int(document), scores[row], ranked.contributions[row]),
                self._history_parts(scores[row], vectors[row]),
                word_parts(words[row]),
                self._co_purchase_parts(ranked.records[row]["item_id"]) if is_co_purchase[row] else [],
                self._plan.query.text,
                ranked.notes[row],
            )
            for row, document in enumerate(ranked.documents)
        ]

    def _retriever_parts(self, document: int, scores: Floats, contributions: Floats) -> list[RetrieverPart]:
        columns = zip(self._plan.retrievers, self._plan.weights, scores, self._ranks, contributions, strict=True)
        return [
            RetrieverPart(each.name, each.kind, round(float(score), 6), ranks.get(document), float(contribution))
            for each, weight, score, ranks, contribution in columns
            if weight > 0
        ]

    def _history_weights(self, retriever: Retriever) -> Mapping[str, float]:
        """Return the items whose vectors a retriever sums, with their weights; those of an interest are not scaled."""
        profile = self._facts.session if retriever.name == "session" else self._facts.user
        history = profile.history if profile else {}
        if retriever.sources:
            return {item: history.get(item, 1.0) for item in retriever.sources}
        return history

    def _history_parts(self, scores: Floats, vector: Vector) -> list[HistoryPart]:
        """Return the shares of history items in the score of the semantic retriever that is nearest to the hit."""
        if not self._from_history:
            return []
        nearest = self._plan.retrievers[max(self._from_history, key=lambda column: float(scores[column]))]
        weights_by_item = self._history_weights(nearest)
        items = [self._history[item] for item in weights_by_item if item in self._history]
        if not items:
            return []
        vectors = np.stack([item.vector for item in items])
        weights = np.array([weights_by_item[item.item_id] for item in items])
        if nearest.sources:
            weights /= np.linalg.norm(weights @ vectors.astype(np.float64))
        shares = history_shares(vectors, weights, vector)
        return [HistoryPart(item.item_id, item.title, float(share)) for item, share in zip(items, shares, strict=True)]

    def _co_purchase_parts(self, item_id: str) -> list[HistoryPart]:
        """Return the shares of the items with which the hit was bought; history and session may share an item."""
        shares: dict[str, float] = {}
        profiles: list[User] = [each for each in (self._facts.user, self._facts.session) if each is not None]
        for start, weight in [pair for profile in profiles for pair in profile.behaviour.items()]:
            source = self._facts.neighbours.get(start)
            if source is not None and item_id in source.neighbours:
                shares[start] = shares.get(start, 0.0) + weight * source.neighbours[item_id]
        return [HistoryPart(start, self._facts.neighbours[start].title, share) for start, share in shares.items()]


def history_shares(vectors: Vectors, weights: Floats, document: Vector) -> Floats:
    """Return w_i v_i . d for each history item i; since the profile is the sum of w_i v_i, they add up to profile . d.

    Args:
        vectors: (h, d), the history's item vectors.
        weights: (h,), their weights in the unit profile vector.
        document: (d,), the vector of the hit.
    """
    shares: Floats = weights * (vectors.astype(np.float64) @ document.astype(np.float64))
    return shares


def word_parts(shares: Mapping[str, float]) -> tuple[WordPart, ...]:
    """Return the words that matched, largest share first."""
    ordered = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(WordPart(word, share) for word, share in ordered if share > 0.0)


def build_explanation(
    retrievers: Sequence[RetrieverPart],
    history: Sequence[HistoryPart],
    words: tuple[WordPart, ...],
    bought_with: Sequence[HistoryPart] = (),
    text: str | None = None,
    notes: tuple[str, ...] = (),
) -> Explanation:
    """Return the explanation of a hit from its parts.

    Args:
        retrievers: the part of every retriever.
        history: the shares of all history items in the score of a semantic retriever; the `SHOWN` largest are named,
            the others summed.
        words: the matched words.
        bought_with: the shares of all items in the co-purchase score, likewise.
        text: the text of the query.
        notes: what rules, diversity and category caps did to the hit after fusion.
    """
    semantic = max((each.score for each in retrievers if each.name in FROM_HISTORY), default=0.0)
    behaviour = sum(each.score for each in retrievers if each.kind == "behaviour")
    named_history, named_bought = _largest(history), _largest(bought_with)
    meaning = next((each.score for each in retrievers if each.name == "text"), 0.0)
    popularity = max((each.score for each in retrievers if each.kind == "popularity"), default=0.0)
    reasons = [
        _history_reason(named_history, semantic),
        f'is near "{text}" in meaning ({meaning:.2f})' if meaning > 0.0 else "",
        _word_reason(words),
        _co_purchase_reason(named_bought),
        # The part of search.item_popularity.score below the point only orders items with equal recent interactions.
        f"is popular ({int(popularity):,} interactions)" if popularity >= 1.0 else "",
        *notes,
    ]
    sentence = "; ".join(reason for reason in reasons if reason) or "is among the nearest items"
    return Explanation(
        sentence[0].upper() + sentence[1:] + ".",
        tuple(retrievers),
        named_history,
        _rest(semantic, named_history),
        words,
        named_bought,
        _rest(behaviour, named_bought),
        notes,
    )


def _largest(parts: Sequence[HistoryPart]) -> tuple[HistoryPart, ...]:
    ordered = sorted(parts, key=lambda part: (-part.share, part.item_id))[:SHOWN]
    return tuple(part for part in ordered if part.share > 0.0)


def _rest(total: float, named: Sequence[HistoryPart]) -> float:
    return round(total - sum(part.share for part in named), 6)


def _history_reason(history: Sequence[HistoryPart], score: float) -> str:
    if not history or score <= 0.0:
        return ""
    names = [f'"{part.title}" ({part.share / score:.0%})' for part in history]
    return f"resembles {_enumerate(names)} of the history"


def _word_reason(words: Sequence[WordPart]) -> str:
    noun = "word" if len(words) == 1 else "words"
    return f"shares the {noun} {_enumerate([part.word for part in words[:5]])}" if words else ""


def _co_purchase_reason(parts: Sequence[HistoryPart]) -> str:
    names = [f'"{part.title}"' for part in parts]
    return f"is bought by those who bought {_enumerate(names)}" if names else ""


def _enumerate(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
