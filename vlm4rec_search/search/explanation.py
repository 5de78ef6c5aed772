"""Why a hit is in the answer: the part of every retriever, of history items and words, and one sentence."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from vlm4rec_search.common.vectors import Floats, Vectors
from vlm4rec_search.search.backend import Reader, Retrieved
from vlm4rec_search.search.model import PINNED, Facts, Plan, Ranked, Retriever, User, Vector
from vlm4rec_search.search.query import Explanation, HistoryPart, RetrieverPart, WordPart
from vlm4rec_search.search.reasons import (
    Reason,
    chosen_with,
    goes_with,
    has_words,
    is_near,
    is_popular,
    list_names,
    resembles,
    shares_words,
    tell,
)

SHOWN = 3  # history items that an explanation names
FROM_HISTORY = ("profile", "interest", "session")  # semantic retrievers whose vector is a sum over history items
TOP = 0.25  # part of the popularity ranking whose items may be called popular
HISTORY, VISIT = "the history", "this visit"


@dataclass(frozen=True, slots=True)
class _Parts:
    """What speaks for one hit, each largest share first.

    Attributes:
        profile: items of the history that it resembles; of several interests, those of the nearest.
        session: items of the session that it resembles.
        words: the matched words.
        bought_with: items that were bought together with it.
        goes_with: items that all shoppers' histories connect with it.
    """

    profile: tuple[HistoryPart, ...]
    session: tuple[HistoryPart, ...]
    words: tuple[WordPart, ...]
    bought_with: tuple[HistoryPart, ...]
    goes_with: tuple[HistoryPart, ...]


class Explainer:
    """Explains the hits of one answer."""

    def __init__(self, reader: Reader, facts: Facts, plan: Plan, retrieved: Retrieved) -> None:
        self._facts, self._plan, self._retrieved = facts, plan, retrieved
        from_history = [retriever for retriever in plan.retrievers if retriever.name in FROM_HISTORY]
        used = {item for retriever in from_history for item in self._history_weights(retriever)}
        self._history = reader.items(sorted(used)) if used else {}
        self._ranks = [
            {int(document): rank for rank, document in enumerate(each.documents, 1)} for each in retrieved.candidates
        ]

    def explain(self, ranked: Ranked) -> list[Explanation]:
        """Return the explanation of each hit."""
        scores, words = self._retrieved.scores(ranked.documents), self._retrieved.words(ranked.documents)
        vectors = self._retrieved.vectors(ranked.documents)
        return [
            self._explain(ranked, row, scores[row], words[row], vectors[row]) for row in range(len(ranked.documents))
        ]

    def _explain(
        self, ranked: Ranked, row: int, scores: Floats, words: Mapping[str, float], vector: Vector
    ) -> Explanation:
        document, contributions, notes = int(ranked.documents[row]), ranked.contributions[row], ranked.notes[row]
        profile = self._nearest(scores, ("profile", "interest"))
        session = self._nearest(scores, ("session",))
        parts = _Parts(
            largest(self._history_parts(profile, vector)),
            largest(self._history_parts(session, vector)),
            word_parts(words),
            largest(self._neighbour_parts("co-purchase", ranked.records[row]["item_id"], scores)),
            largest(self._neighbour_parts("ease", ranked.records[row]["item_id"], scores)),
        )
        nearest = self._nearest(scores, FROM_HISTORY)
        history = parts.session if nearest == session else parts.profile
        cosine = 0.0 if nearest is None else float(scores[nearest])
        boosted = round(float(ranked.scores[row] - contributions.sum()), 9)
        return Explanation(
            self._sentence(document, scores, contributions, parts, boosted, notes),
            self._retriever_parts(document, scores, contributions),
            history,
            _rest(cosine, history),
            parts.words,
            parts.bought_with,
            _rest(self._sum_of("co-purchase", scores), parts.bought_with),
            notes,
            parts.goes_with,
            _rest(self._sum_of("ease", scores), parts.goes_with),
            boosted,
        )

    def _retriever_parts(self, document: int, scores: Floats, contributions: Floats) -> tuple[RetrieverPart, ...]:
        total = float(contributions.sum())
        columns = zip(self._plan.retrievers, scores, self._ranks, contributions, strict=True)
        return tuple(
            RetrieverPart(
                each.name,
                each.kind,
                round(float(score), 6),
                ranks.get(document),
                float(contribution),
                float(contribution) / total if total else 0.0,
            )
            for each, score, ranks, contribution in columns
            if each.name != PINNED
        )

    def _sentence(
        self,
        document: int,
        scores: Floats,
        contributions: Floats,
        parts: _Parts,
        boosted: float,
        notes: tuple[str, ...],
    ) -> str:
        pins, boosts = self._notes_of("pin", notes), self._notes_of("boost", notes)
        if pins:  # whatever the scores are
            return tell([], pins)
        reasons = [
            Reason(self._clause(column, document, float(scores[column]), parts), float(contribution))
            for column, contribution in enumerate(contributions)
        ]
        if boosted > 0.0:
            reasons.append(Reason(f"it {list_names(boosts)}", boosted))
            notes = tuple(note for note in notes if note not in boosts)
        return tell(reasons, notes)

    def _notes_of(self, action: str, notes: Iterable[str]) -> list[str]:
        of_action = [rule.note for rule in self._plan.rules if rule.action == action]
        return [note for note in notes if note in of_action]

    def _clause(self, column: int, document: int, score: float, parts: _Parts) -> str:
        """Return why a retriever found a hit, in words; empty where its score says nothing for the hit."""
        if score <= 0.0:
            return ""
        retriever, text = self._plan.retrievers[column], self._plan.query.text
        match retriever.name:
            case "profile" | "interest":
                return resembles(parts.profile, HISTORY)
            case "session":
                return resembles(parts.session, self._visit)
            case "text":
                return is_near(text or "")
            case "words":
                return has_words(parts.words) if text else shares_words(parts.words, self._origin("words"))
            case "co-purchase":
                return chosen_with(parts.bought_with)
            case "ease":
                return goes_with(parts.goes_with, self._origin("behaviour"))
            case "shoppers":
                return "similar shoppers chose it lately"
            case "popularity":
                candidates = self._retrieved.candidates[column].documents
                rank = self._ranks[column].get(document, len(candidates) + 1)
                return is_popular(score, rank <= ceil(TOP * len(candidates)), self._group(retriever))
        return f"the retriever {retriever.name} found it"

    @property
    def _visit(self) -> str:
        """Where the items of the session are; empty where the query is for items that resemble a single one."""
        session, user = self._facts.session, self._facts.user
        return "" if session is None or (user is None and len(session.seen) == 1) else VISIT

    def _origin(self, name: Literal["words", "behaviour"]) -> str:
        """Return where the items come from whose words or co-purchases are searched for."""
        user, session = self._facts.user, self._facts.session
        origins = [HISTORY if user is not None and getattr(user, name) else "", self._visit if session else ""]
        return list_names([origin for origin in origins if origin])

    def _group(self, retriever: Retriever) -> str:
        if not retriever.items:
            return ""
        return "with shoppers of the same group" if self._plan.tier == "segment" else "in its category"

    def _nearest(self, scores: Floats, names: Collection[str]) -> int | None:
        """Return the column of the retriever of these names that is nearest to the hit."""
        columns = [column for column, each in enumerate(self._plan.retrievers) if each.name in names]
        return max(columns, key=lambda column: float(scores[column]), default=None)

    def _sum_of(self, name: str, scores: Floats) -> float:
        return float(sum(scores[column] for column, each in enumerate(self._plan.retrievers) if each.name == name))

    def _history_weights(self, retriever: Retriever) -> Mapping[str, float]:
        """Return the items whose vectors a retriever sums, with their weights; those of an interest are not scaled."""
        profile = self._facts.session if retriever.name == "session" else self._facts.user
        history = profile.history if profile else {}
        if retriever.sources:
            return {item: history.get(item, 1.0) for item in retriever.sources}
        return history

    def _history_parts(self, column: int | None, vector: Vector) -> list[HistoryPart]:
        """Return the shares of history items in the score of a semantic retriever, none without a retriever."""
        if column is None:
            return []
        retriever = self._plan.retrievers[column]
        weights_by_item = self._history_weights(retriever)
        items = [self._history[item] for item in weights_by_item if item in self._history]
        if not items:
            return []
        vectors = np.stack([item.vector for item in items])
        weights = np.array([weights_by_item[item.item_id] for item in items])
        if retriever.sources:
            weights /= np.linalg.norm(weights @ vectors.astype(np.float64))
        shares = history_shares(vectors, weights, vector)
        return [HistoryPart(item.item_id, item.title, float(share)) for item, share in zip(items, shares, strict=True)]

    def _neighbour_parts(self, name: Literal["co-purchase", "ease"], item_id: str, scores: Floats) -> list[HistoryPart]:
        """Return the shares of items in the score of co-purchases or EASE; history and session may share an item."""
        if self._sum_of(name, scores) <= 0.0:
            return []
        shares: dict[str, float] = {}
        profiles: list[User] = [each for each in (self._facts.user, self._facts.session) if each is not None]
        for profile in profiles:
            for start, weight in (profile.lasting if name == "ease" else profile.behaviour).items():
                if source := self._facts.neighbours.get(start):
                    values = source.ease if name == "ease" else source.neighbours
                    if item_id in values:
                        shares[start] = shares.get(start, 0.0) + weight * values[item_id]
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


def largest(parts: Iterable[HistoryPart]) -> tuple[HistoryPart, ...]:
    """Return the `SHOWN` largest shares that are above 0, best first."""
    ordered = sorted(parts, key=lambda part: (-part.share, part.item_id))[:SHOWN]
    return tuple(part for part in ordered if part.share > 0.0)


def _rest(total: float, named: Iterable[HistoryPart]) -> float:
    return round(total - sum(part.share for part in named), 6)
