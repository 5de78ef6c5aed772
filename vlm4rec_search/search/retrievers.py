"""Legs: the independent rankings that answer a query, each by vectors, words, a list of items, or popularity."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from vlm4rec_search.common.analyzer import tokens
from vlm4rec_search.search.model import Item, Leg, User, Vector, Word
from vlm4rec_search.search.query import Mode

Encode = Callable[[str], Vector]

LISTED = 500  # items of a leg that is a list: a server takes each of them as a clause
TERMS = 32  # words of an item, and of a session


def text_words(text: str) -> dict[str, Word]:
    """Return the terms of a text by first occurrence; a term that occurs twice counts twice, as in Lucene."""
    counts: Counter[str] = Counter()
    forms: dict[str, str] = {}
    for term, word in tokens(text):
        counts[term] += 1
        forms.setdefault(term, word)
    return {term: Word(forms[term], float(count)) for term, count in counts.items()}


def session_user(items: Sequence[Item]) -> User:
    """Return what a session's items say of a shopper who may have no profile: each item counts alike.

    The vector is the unit mean of theirs, words are the sum of their words (1 for the first, at most `TERMS`).
    """
    sums = np.sum([item.vector.astype(np.float64) for item in items], axis=0)
    length = float(np.linalg.norm(sums))
    known = length > 1e-9
    return User(
        user_id="",
        vector=(sums / length).astype(np.float32) if known else None,
        words=_joined([item.words for item in items]),
        history={item.item_id: 1.0 / length for item in items} if known else {},
        behaviour={item.item_id: 1.0 for item in items},
        seen=[item.item_id for item in items],
    )


def _joined(parts: Sequence[Mapping[str, Word]]) -> dict[str, Word]:
    totals: Counter[str] = Counter()
    forms: dict[str, str] = {}
    for words in parts:
        for term, word in words.items():
            totals[term] += word.weight  # type: ignore[assignment]  # a Counter adds floats as well
            forms.setdefault(term, word.form)
    best = sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))[:TERMS]
    return {term: Word(forms[term], weight / best[0][1]) for term, weight in best}


def co_purchases(
    behaviour: Mapping[str, float], items: Mapping[str, Item], without: Collection[str] = ()
) -> dict[str, float]:
    """Return the best `LISTED` neighbours of the items that a shopper starts from, but for those `without`.

    score(j) = sum over i of weight(i) x similarity(i, j), rounded to 6 decimals; equal scores by item id.
    """
    scores: dict[str, float] = defaultdict(float)
    for item_id, weight in behaviour.items():
        if item := items.get(item_id):
            for neighbour, similarity in item.neighbours.items():
                scores[neighbour] += weight * similarity
    for item_id in without:
        scores.pop(item_id, None)
    values = np.fromiter(scores.values(), dtype=np.float64, count=len(scores)).round(6)
    lowest = np.partition(values, -LISTED)[-LISTED] if len(values) > LISTED else 0.0  # most are far from the best
    names, near = list(scores), np.flatnonzero((values >= lowest) & (values > 0.0))
    best = sorted(zip((-values[near]).tolist(), map(names.__getitem__, near.tolist()), strict=True))
    return {item: -score for score, item in best[:LISTED]}


def taste_legs(user: User, mode: Mode, by_interest: bool, name: str) -> list[Leg]:
    """Return the legs of a taste, of a profile or a session, that the mode wants and that need no co-purchases.

    Args:
        user: vector, words and interests.
        mode: hybrid wants all of them.
        by_interest: one semantic leg for each interest, in the place of the one of the mean.
        name: of the leg of the mean, profile or session.
    """
    legs: list[Leg] = []
    if by_interest and user.interests:
        legs += [Leg("interest", "semantic", part.vector, weight=part.importance, sources=part.items)
                 for part in user.interests]  # fmt: skip
    elif user.vector is not None:
        legs.append(Leg(name, "semantic", user.vector))
    if user.words:
        legs.append(Leg("words", "lexical", words=user.words))
    return [leg for leg in legs if mode in ("hybrid", leg.kind)]


def text_legs(text: str, mode: Mode, encode: Encode) -> list[Leg]:
    """Return the legs of a text: its vector and its words, as the mode wants."""
    legs = [Leg("text", "semantic", encode(text))] if mode in ("hybrid", "semantic") else []
    return legs + ([Leg("words", "lexical", words=text_words(text))] if mode in ("hybrid", "lexical") else [])
