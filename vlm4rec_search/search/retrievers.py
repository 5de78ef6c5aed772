"""The retrievers of a query: what a profile, a session, a text or co-purchases make of it."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vlm4rec_search.common.analyzer import Analyzer
from vlm4rec_search.search.model import MAX_ITEMS, Item, Neighbours, Retriever, User, Vector, Word
from vlm4rec_search.search.query import ItemToItem, Mode, Origin

MAX_TERMS = 32  # words of a session


def profile_retrievers(profile: User | None, mode: Mode, by_interest: bool, origin: Origin) -> list[Retriever]:
    """Return the retrievers of a profile that the mode uses, without co-purchases and EASE.

    Args:
        profile: of a shopper or a session; None has no retrievers.
        mode: hybrid uses every kind.
        by_interest: one semantic retriever for each interest, in place of one for the profile vector.
        origin: what the profile is of; it names the retriever of the profile vector.
    """
    if profile is None:
        return []
    retrievers: list[Retriever] = []
    if by_interest and profile.interests:
        retrievers += [
            Retriever("interest", "semantic", each.vector, weight=each.importance, sources=each.items)
            for each in profile.interests
        ]
    elif profile.vector is not None:
        retrievers.append(Retriever(origin, "semantic", profile.vector))
    if profile.words:
        retrievers.append(Retriever("words", "lexical", words=profile.words))
    if profile.shoppers:
        retrievers.append(Retriever("shoppers", "shoppers", items=profile.shoppers))
    if profile.fitted is not None:
        retrievers.append(Retriever("fitted", "fitted", profile.fitted))
    return [replace(retriever, origin=origin) for retriever in retrievers if mode in ("hybrid", retriever.kind)]


def text_retrievers(text: str, mode: Mode, vector: Vector | None, analyzer: Analyzer) -> list[Retriever]:
    """Return the retrievers of a text that the mode uses: its vector and its words."""
    semantic = [] if vector is None else [Retriever("text", "semantic", vector)]
    if mode not in ("hybrid", "lexical"):
        return semantic
    return [*semantic, Retriever("words", "lexical", words=text_words(text, analyzer))]


def text_words(text: str, analyzer: Analyzer) -> dict[str, Word]:
    """Return the terms of a text by first occurrence; a term that occurs twice counts twice, as in Lucene."""
    counts: dict[str, float] = defaultdict(float)
    forms: dict[str, str] = {}
    for term, form in analyzer.tokens(text):
        counts[term] += 1.0
        forms.setdefault(term, form)
    return {term: Word(forms[term], count) for term, count in counts.items()}


def session_profile(items: Sequence[Item]) -> User:
    """Return a profile made of a session's items, each of which counts alike.

    The vector is the unit mean of their vectors, and so is the fitted one. The words are the sum of their words, scaled
    so that the heaviest has weight 1, at most `MAX_TERMS`; of equally heavy ones the rarest in any item.
    """
    vector, length = _sum_vectors([item.vector for item in items])
    fitted, _ = _sum_vectors([item.fitted for item in items if item.fitted is not None])
    return User(
        user_id="",
        vector=vector,
        words=_sum_words([item.words for item in items]),
        history={} if vector is None else {item.item_id: 1.0 / length for item in items},
        behaviour={item.item_id: 1.0 for item in items},
        lasting={item.item_id: 1.0 for item in items},
        fitted=fitted,
        seen=[item.item_id for item in items],
    )


def without_hidden(profile: User, hidden: Sequence[Item]) -> User:
    """Return the profile of a shopper or a session after the shopper turned items down.

    Each such item counts against the vector as much as an average item of the history counts for it, and all of them
    together half as much as the history, as dislikes in the tables do. None is a start of co-purchases or EASE.
    """
    ids = {item.item_id for item in hidden}
    profile = replace(
        profile,
        behaviour={item: weight for item, weight in profile.behaviour.items() if item not in ids},
        lasting={item: weight for item, weight in profile.lasting.items() if item not in ids},
    )
    liked = [weight for item, weight in profile.history.items() if weight > 0.0 and item not in ids]
    if profile.vector is None or not hidden or not liked:
        return profile
    against = min(sum(liked) / len(liked), 0.5 * sum(liked) / len(hidden))
    vector, length = _sum_vectors([profile.vector, *(-against * item.vector for item in hidden)])
    if vector is None:
        return profile
    total = dict(profile.history)
    for item in hidden:
        total[item.item_id] = total.get(item.item_id, 0.0) - against
    interests = tuple(replace(each, vector=_turned_away(each.vector, hidden)) for each in profile.interests)
    history = {item: weight / length for item, weight in total.items()}
    return replace(profile, vector=vector, history=history, interests=interests)


def _turned_away(vector: Vector, hidden: Sequence[Item]) -> Vector:
    """Return the vector of an interest after the shopper turned items down, which count half of it at most."""
    turned, _ = _sum_vectors([vector, *(-0.5 / len(hidden) * item.vector for item in hidden)])
    return vector if turned is None else turned


def _sum_vectors(vectors: Sequence[Vector]) -> tuple[Vector | None, float]:
    """Return the direction and the length of a sum of vectors; the direction is None where they cancel out."""
    total = np.sum([vector.astype(np.float64) for vector in vectors], axis=0)
    length = float(np.linalg.norm(total))
    return ((total / length).astype(np.float32) if length > 1e-9 else None), length


def _sum_words(words_of_items: Sequence[Mapping[str, Word]]) -> dict[str, Word]:
    totals: dict[str, float] = defaultdict(float)
    ranks: dict[str, int] = {}
    forms: dict[str, str] = {}
    for words in words_of_items:
        for rank, (term, word) in enumerate(words.items()):
            totals[term] += word.weight
            ranks[term] = min(rank, ranks.get(term, rank))
            forms.setdefault(term, word.form)
    best = sorted(totals.items(), key=lambda pair: (-pair[1], ranks[pair[0]], pair[0]))[:MAX_TERMS]
    return {term: Word(forms[term], weight / best[0][1]) for term, weight in best}


class ReadNeighbours(Neighbours):
    """Neighbours that were read whole, with their items."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        """Keep the items by id."""
        self._items = items

    def sum(self, kind: ItemToItem, weights: Mapping[str, float], without: Collection[str] = ()) -> dict[str, float]:
        scores: dict[str, float] = defaultdict(float)
        for item_id, weight in weights.items():
            if item := self._items.get(item_id):
                for neighbour, value in (item.neighbours if kind == "behaviour" else item.ease).items():
                    scores[neighbour] += weight * value
        for item_id in without:
            scores.pop(item_id, None)
        values = np.fromiter(scores.values(), dtype=np.float64, count=len(scores)).round(6)
        # Sorting in Python is slow and most scores are far from the best: only those above the last that fits are.
        lowest = np.partition(values, -MAX_ITEMS)[-MAX_ITEMS] if len(values) > MAX_ITEMS else 0.0
        ids, near = list(scores), np.flatnonzero((values >= lowest) & (values > 0.0))
        best = sorted(zip((-values[near]).tolist(), map(ids.__getitem__, near.tolist()), strict=True))
        return {item: -score for score, item in best[:MAX_ITEMS]}

    def items(self, others: Collection[str]) -> Mapping[str, Item]:
        return self._items
