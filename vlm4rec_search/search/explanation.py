"""Why a hit is in the answer: the part of every retriever, of history items and words, and one sentence."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil
from typing import Literal

import numpy as np

from vlm4rec_search.common.vectors import Floats, Vectors
from vlm4rec_search.search.backend import Reader, Retrieved
from vlm4rec_search.search.fusion import shared_ranks
from vlm4rec_search.search.model import PINNED, Facts, Item, Plan, Ranked, Retriever, User, Vector
from vlm4rec_search.search.query import Explanation, HistoryPart, Origin, ReasonPart, RetrieverPart, WordPart
from vlm4rec_search.search.reasons import (
    Reason,
    chosen_before,
    chosen_with,
    goes_with,
    has_learned_likeness,
    has_words,
    is_in,
    is_near,
    is_nearest,
    is_popular,
    list_names,
    looks_like,
    named_parts,
    rank_reasons,
    resembles,
    shares_words,
    tell,
)

SHOWN = 3  # history items that an explanation names
FROM_HISTORY = ("profile", "interest", "session")  # semantic retrievers whose vector is a sum over history items
TOP = 0.25  # upper part of a retriever's candidates, which may be called popular, or like an item without reserve
# Least cosine of a hit and an item that it may be said to resemble. Of pairs of one style among 1,000 products of AWS's
# Retail Demo Store (title and description, all-MiniLM-L6-v2), 61% reach it, and 6% of pairs of different categories; by
# the titles alone 50% and 3%, and with hashing-384 12% and 0.3%.
ALIKE = 0.4
_Start = tuple[str, float, Mapping[str, float]]  # id of an item, its weight, and its values by neighbour
HISTORY, VISIT = "the history", "this visit"


@dataclass(frozen=True, slots=True)
class _Hit:
    """One hit and what its reasons are made of.

    Attributes:
        document: its number.
        item_id: its id.
        like_history: clause of its likeness to items of the history; of several interests, to the one that added most.
        like_session: clause of its likeness to items of the session.
        words: the matched words, largest share first.
        learned: by the column of a fitted retriever, the items that it resembles most by learned vectors.
        learned_alike: those of them that it may be said to resemble.
    """

    document: int
    item_id: str
    like_history: str
    like_session: str
    words: tuple[WordPart, ...]
    learned: Mapping[int | None, tuple[HistoryPart, ...]]
    learned_alike: Mapping[int | None, Sequence[HistoryPart]]


class Explainer:
    """Explains the hits of one answer."""

    def __init__(self, reader: Reader, facts: Facts, plan: Plan, retrieved: Retrieved) -> None:
        self._facts, self._plan, self._retrieved = facts, plan, retrieved
        self._release = reader.release
        self._profiles: Mapping[Origin | None, User | None] = {"profile": facts.user, "session": facts.session}
        from_history = [each for each in plan.retrievers if each.name in (*FROM_HISTORY, "fitted")]
        used = {item for retriever in from_history for item in self._history_weights(retriever)}
        self._history = reader.items(sorted(used)) if used else {}
        self._neighbours: Mapping[str, Item] = {}
        self._starts_of: dict[tuple[str, Origin | None], list[_Start]] = {}
        self._sums: dict[int, tuple[list[Item], Floats, Floats]] = {}
        self._ranks = [
            dict(zip(each.documents.tolist(), shared_ranks(each.scores).astype(int).tolist(), strict=True))
            for each in retrieved.candidates
        ]

    def explain(self, ranked: Ranked) -> list[Explanation]:
        """Return the explanation of each hit."""
        if self._facts.neighbours is not None:
            self._neighbours = self._facts.neighbours.items([record["item_id"] for record in ranked.records])
            self._starts_of.clear()
        scores, words = self._retrieved.scores(ranked.documents), self._retrieved.words(ranked.documents)
        vectors = self._retrieved.vectors(ranked.documents)
        learned = self._retrieved.vectors(ranked.documents, "fitted") if self._uses("fitted") else vectors
        return [
            self._explain(ranked, row, scores[row], words[row], vectors[row], learned[row])
            for row in range(len(ranked.documents))
        ]

    def _explain(
        self,
        ranked: Ranked,
        row: int,
        scores: Floats,
        words: Mapping[str, float],
        vector: Vector,
        learned: Vector,
    ) -> Explanation:
        document, contributions, notes = int(ranked.documents[row]), ranked.contributions[row], ranked.notes[row]
        nearest = self._best(scores, FROM_HISTORY)
        of_profile = self._best(contributions, ("profile", "interest"))
        of_session = self._best(contributions, ("session",))
        item_id = ranked.records[row]["item_id"]
        history = self._history_parts(nearest, vector, item_id)
        columns: list[int | None] = [*self._columns(("fitted",))]
        by_learned = {column: self._history_parts(column, learned, item_id) for column in columns}
        hit = _Hit(
            document,
            item_id,
            self._likeness(of_profile, document, item_id, vector, HISTORY),
            self._likeness(of_session, document, item_id, vector, self._visit),
            word_parts(words),
            by_learned,
            {column: self._alike(column, parts, learned) for column, parts in by_learned.items()},
        )
        co_purchase = self._sum_of("co-purchase", scores)
        bought_with = largest(self._co_purchase_parts(hit.item_id, self._profiles if co_purchase > 0.0 else []))
        ease = self._sum_of("ease", scores)
        by_ease = largest(self._ease_parts(hit.item_id, self._profiles if ease > 0.0 else []))
        fitted = self._best(scores, ("fitted",))
        boosted = round(float(ranked.scores[row] - contributions.sum()), 9)
        named, told = self._reasons(hit, scores, contributions, boosted, notes)
        return Explanation(
            sentence=tell(named, told),
            legs=self._retriever_parts(document, scores, contributions),
            history=history,
            rest=_rest(0.0 if nearest is None else float(scores[nearest]), history),
            words=hit.words,
            bought_with=bought_with,
            bought_rest=_rest(co_purchase, bought_with),
            rules=notes,
            goes_with=by_ease,
            goes_rest=_rest(ease, by_ease),
            boosted=boosted,
            reasons=tuple(ReasonPart(clause, share) for clause, share in named),
            learned=hit.learned.get(fitted, ()),
            learned_rest=_rest(0.0 if fitted is None else float(scores[fitted]), hit.learned.get(fitted, ())),
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
                each.origin,
            )
            for each, score, ranks, contribution in columns
            if each.name != PINNED
        )

    def _reasons(
        self, hit: _Hit, scores: Floats, contributions: Floats, boosted: float, notes: tuple[str, ...]
    ) -> tuple[list[tuple[str, float]], Iterable[str]]:
        """Return the reasons that are named, with their shares, and the notes that follow them."""
        pins, boosts = self._notes_of("pin", notes), self._notes_of("boost", notes)
        if pins:  # whatever the scores are
            return [], pins
        reasons = [
            Reason(self._clause(column, float(scores[column]), contributions, hit), float(contribution))
            for column, contribution in enumerate(contributions)
        ]
        if boosted > 0.0:
            reasons.append(Reason(f"it {list_names(boosts)}", boosted))
            notes = tuple(note for note in notes if note not in boosts)
        return rank_reasons(reasons), notes

    def _notes_of(self, action: str, notes: Iterable[str]) -> list[str]:
        of_action = [rule.note for rule in self._plan.rules if rule.action == action]
        return [note for note in notes if note in of_action]

    def _clause(self, column: int, score: float, contributions: Floats, hit: _Hit) -> str:
        """Return why a retriever found a hit, in words; empty where its score says nothing for the hit."""
        if score <= 0.0:
            return ""
        retriever, text = self._plan.retrievers[column], self._plan.query.text
        place = self._visit if retriever.origin == "session" else HISTORY
        if retriever.name in (*FROM_HISTORY, "words", "fitted") and self._is_own(retriever, hit.item_id):
            return (self._chosen_before(hit.item_id) if place == HISTORY else "") or is_in(place or VISIT)
        match retriever.name:
            case "profile" | "interest":
                return hit.like_history
            case "session":
                return hit.like_session
            case "text":
                is_top = self._is_top(column, hit.document)
                return is_near(text or "", is_top) if is_top or score >= ALIKE else ""
            case "photo":
                return looks_like(self._facts.photo_title, self._is_top(column, hit.document))
            case "words" if text:
                return has_words(hit.words)
            case "words":
                forms = {word.form for word in retriever.words.values()}
                return shares_words([part for part in hit.words if part.word in forms], place)
            case "co-purchase" | "ease":
                return self._connected(column, contributions, hit.item_id, place)
            case "buy-again":
                return self._chosen_before(hit.item_id)
            case "fitted":
                return has_learned_likeness(hit.learned_alike.get(column, ()), place)
            case "shoppers":
                return "similar shoppers chose it"
            case "popularity":
                is_top, days = self._is_top(column, hit.document), self._popularity_days(retriever)
                return is_popular(score, is_top, self._group(retriever), days)
        return f"the retriever {retriever.name} found it"

    def _likeness(self, column: int | None, document: int, item_id: str, vector: Vector, place: str) -> str:
        """Return the clause of likeness to the items whose vectors a retriever sums, empty without a retriever."""
        parts, is_top = self._history_parts(column, vector, item_id), self._is_top(column, document)
        if alike := self._alike(column, parts, vector):
            return resembles(alike, is_top, place)
        return is_nearest(place) if parts and is_top else ""

    def _alike(self, column: int | None, parts: Sequence[HistoryPart], vector: Vector) -> list[HistoryPart]:
        """Return the parts of items that a hit may be said to resemble, by the vectors that a retriever sums."""
        if column is None or not parts:
            return []
        items, vectors, _ = self._sums[column]
        cosines = dict(zip([item.item_id for item in items], (vectors @ vector).round(6).tolist(), strict=True))
        return [part for part in parts if cosines[part.item_id] >= ALIKE]

    def _is_own(self, retriever: Retriever, item_id: str) -> bool:
        """Return whether the vector or the words of a retriever are made of this item, too."""
        return self._history_weights(retriever).get(item_id, 0.0) > 0.0

    def _connected(self, column: int, contributions: Floats, item_id: str, place: str) -> str:
        """Return the clause of co-purchases or EASE, without the items that the other names if it added more."""
        retriever = self._plan.retrievers[column]
        more = [
            each
            for other in self._columns(("co-purchase", "ease"))
            if contributions[other] > contributions[column]
            and (each := self._plan.retrievers[other]).origin == retriever.origin
        ]
        told = {part.title for each in more for part in self._connecting(each, item_id)}
        parts = [part for part in self._connecting(retriever, item_id) if part.title not in told]
        return chosen_with(parts, place) if retriever.name == "co-purchase" else goes_with(parts, place)

    def _connecting(self, retriever: Retriever, item_id: str) -> Sequence[HistoryPart]:
        """Return the items that the clause of co-purchases or EASE may name."""
        parts_of = self._co_purchase_parts if retriever.name == "co-purchase" else self._ease_parts
        return named_parts(largest(parts_of(item_id, [retriever.origin])))

    def _chosen_before(self, item_id: str) -> str:
        repeat = self._facts.user.repeats.get(item_id) if self._facts.user else None
        if repeat is None:
            return ""
        return chosen_before(repeat.times, date.fromisoformat(repeat.last_on))

    def _uses(self, name: str) -> bool:
        return any(each.name == name for each in self._plan.retrievers)

    def _is_top(self, column: int | None, document: int) -> bool:
        ranks = {} if column is None else self._ranks[column]
        return bool(ranks.get(document, len(ranks) + 1) <= ceil(TOP * len(ranks)))

    @property
    def _visit(self) -> str:
        """Where the items of the session are; empty where the query is for items that resemble a single one."""
        session, user = self._facts.session, self._facts.user
        return "" if session is None or (user is None and len(session.seen) == 1) else VISIT

    def _group(self, retriever: Retriever) -> str:
        if not retriever.items:
            return ""
        return "in the shopper's group" if self._plan.tier == "segment" else "in its category"

    def _popularity_days(self, retriever: Retriever) -> float | None:
        """Return how many days count; those of a segment or category are twice as many (search.segment_popularity)."""
        days = self._release.popularity_days
        return 2 * days if days is not None and retriever.items else days

    def _best(self, values: Floats, names: Collection[str]) -> int | None:
        """Return the column of the largest value among the retrievers of these names."""
        return max(self._columns(names), key=lambda column: float(values[column]), default=None)

    def _columns(self, names: Collection[str]) -> list[int]:
        return [column for column, each in enumerate(self._plan.retrievers) if each.name in names]

    def _sum_of(self, name: str, scores: Floats) -> float:
        return float(sum(scores[column] for column, each in enumerate(self._plan.retrievers) if each.name == name))

    def _history_weights(self, retriever: Retriever) -> Mapping[str, float]:
        """Return the items whose vectors a retriever sums, with their weights; those of an interest are not scaled."""
        profile = self._profiles.get(retriever.origin)
        history = profile.history if profile else {}
        if retriever.sources:
            return {item: history.get(item, 1.0) for item in retriever.sources}
        return history

    def _history_parts(self, column: int | None, vector: Vector, item_id: str) -> tuple[HistoryPart, ...]:
        """Return the largest shares of history items in the score of a hit by a semantic retriever.

        There are none without a retriever. The hit itself is none of them, nor is what the shopper disliked or turned
        down: it may have a share above 0, where it is the opposite of the hit, but speaks for nothing by likeness.
        """
        if column is None:
            return ()
        if column not in self._sums:
            self._sums[column] = self._sum_over_history(column)
        items, vectors, weights = self._sums[column]
        if not items:
            return ()
        shares = history_shares(vectors, weights, vector).tolist()
        without = {item_id, *self._plan.query.hidden}
        parts = [
            HistoryPart(item.item_id, item.title, share)
            for item, weight, share in zip(items, weights.tolist(), shares, strict=True)
            if weight > 0.0 and item.item_id not in without
        ]
        return largest(parts)

    def _sum_over_history(self, column: int) -> tuple[list[Item], Floats, Floats]:
        """Return the items whose vectors a retriever sums, their vectors, (h, d), and their weights, (h,)."""
        retriever = self._plan.retrievers[column]
        weights_by_item = self._history_weights(retriever)
        known = [self._history[item] for item in weights_by_item if item in self._history]
        by_item = [(item, item.fitted if retriever.kind == "fitted" else item.vector) for item in known]
        pairs = [(item, of_item) for item, of_item in by_item if of_item is not None]
        if not pairs:
            return [], np.zeros((0, 0)), np.zeros(0)
        items, vectors = [item for item, _ in pairs], np.stack([of_item for _, of_item in pairs]).astype(np.float64)
        weights = np.array([weights_by_item[item.item_id] for item in items])
        if retriever.sources or retriever.kind == "fitted":  # their weights are not scaled to the vector
            weights /= np.linalg.norm(weights @ vectors)
        return items, vectors, weights

    def _co_purchase_parts(self, item_id: str, origins: Iterable[Origin | None]) -> list[HistoryPart]:
        """Return the shares of the items that the same shoppers chose."""
        return self._neighbour_parts(item_id, self._starts("behaviour", origins))

    def _ease_parts(self, item_id: str, origins: Iterable[Origin | None]) -> list[HistoryPart]:
        """Return the shares of items in the score of EASE, negative ones too."""
        return self._neighbour_parts(item_id, self._starts("lasting", origins))

    def _starts(self, kind: Literal["behaviour", "lasting"], origins: Iterable[Origin | None]) -> list[_Start]:
        """Return the items from which co-purchases or EASE start; the profile and the session may share one."""
        found: list[_Start] = []
        for origin in origins:
            profile = self._profiles.get(origin)
            if profile is None:
                continue
            if (kind, origin) not in self._starts_of:
                weights = profile.behaviour if kind == "behaviour" else profile.lasting
                known = [(self._neighbours.get(start), weight) for start, weight in weights.items()]
                self._starts_of[kind, origin] = [
                    (item.item_id, weight, item.neighbours if kind == "behaviour" else item.ease)
                    for item, weight in known
                    if item is not None
                ]
            found += self._starts_of[kind, origin]
        return found

    def _neighbour_parts(self, item_id: str, starts: Iterable[_Start]) -> list[HistoryPart]:
        """Return the shares of a shopper's items in the sum of weight x value of a neighbour."""
        shares: dict[str, float] = {}
        for start, weight, values in starts:
            if item_id in values:
                shares[start] = shares.get(start, 0.0) + weight * values[item_id]
        return [HistoryPart(start, self._neighbours[start].title, share) for start, share in shares.items()]


def history_shares(vectors: Vectors | Floats, weights: Floats, document: Vector) -> Floats:
    """Return w_i v_i . d for each history item i; since the profile is the sum of w_i v_i, they add up to profile . d.

    Args:
        vectors: (h, d), the history's item vectors.
        weights: (h,), their weights in the unit profile vector.
        document: (d,), the vector of the hit.
    """
    shares: Floats = weights * (vectors.astype(np.float64, copy=False) @ document.astype(np.float64))
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
