"""Legs: the independent rankings that answer a query, each by vectors, by words or by popularity."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vlm4rec_search.analysis import tokens
from vlm4rec_search.queries.fusion import Candidates
from vlm4rec_search.queries.query import Kind, Query, Tier

Vector = npt.NDArray[np.float32]
Encode = Callable[[str], Vector]


@dataclass(frozen=True, slots=True)
class Word:
    """A term of a lexical leg: the surface form that people read, and the factor of the term's BM25."""

    form: str
    weight: float


@dataclass(frozen=True, slots=True)
class Leg:
    """One ranking: a unit vector (d,) for a semantic leg, words by term for a lexical one, neither for popularity."""

    name: str
    kind: Kind
    vector: Vector | None = None
    words: Mapping[str, Word] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """What an index knows of a user: the unit vector (d,) or None, and the weighted words by term."""

    vector: Vector | None
    words: Mapping[str, Word]


def choose_legs(query: Query, profile: Profile | None, encode: Encode) -> tuple[Tier, list[Leg]]:
    """Return the tier of the answer and its legs, at least one.

    user: `profile` and the profile's `words`; text: `text` and its `words`; both: `profile`, `text` and the words of
    the text. Where a known user has nothing for the wanted mode, or the user is not known, popularity answers.

    Args:
        query: what is asked.
        profile: of query.user; None when the user is not known.
        encode: text to unit vector; called only when a semantic leg needs it.
    """
    legs: list[Leg] = []
    if profile is not None and profile.vector is not None:
        legs.append(Leg("profile", "semantic", vector=profile.vector))
    if query.text is not None:
        if query.mode != "lexical":
            legs.append(Leg("text", "semantic", vector=encode(query.text)))
        legs.append(Leg("words", "lexical", words=text_words(query.text)))
    elif profile is not None and profile.words:
        legs.append(Leg("words", "lexical", words=profile.words))
    wanted = [leg for leg in legs if query.mode in ("hybrid", leg.kind)]
    if not wanted:
        return "popularity", [Leg("popularity", "popularity")]
    known = any(leg.name == "profile" or query.text is None for leg in wanted)
    return ("profile" if known else "text"), wanted


def text_words(text: str) -> dict[str, Word]:
    """Return the terms of a text by first occurrence; a term that occurs twice counts twice, as in Lucene."""
    counts: Counter[str] = Counter()
    forms: dict[str, str] = {}
    for term, word in tokens(text):
        counts[term] += 1
        forms.setdefault(term, word)
    return {term: Word(forms[term], float(count)) for term, count in counts.items()}


def leg_weights(query: Query, legs: Sequence[Leg | Candidates]) -> list[float]:
    """Return the weight of each leg in the fusion, see `Query.weights`."""
    if query.fusion == "rrf" and not query.weights:
        return [1.0] * len(legs)
    sizes = Counter(leg.kind for leg in legs)
    weights = [query.weights.get(leg.kind, 0.5) / sizes[leg.kind] for leg in legs]
    return weights if sum(weights) > 0 else [1.0] * len(legs)


def top_candidates(
    leg: Leg, scores: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_] | None, depth: int
) -> Candidates:
    """Return the best documents of a leg among the allowed ones, equal scores by document.

    Args:
        leg: a lexical leg finds only documents with a score above 0.
        scores: float32 (n,), one for each document.
        allowed: bool (n,), None for all.
        depth: how many at most.
    """
    usable = scores > 0.0 if leg.kind == "lexical" else None
    if allowed is not None:
        usable = allowed if usable is None else usable & allowed
    documents = np.arange(len(scores)) if usable is None else np.flatnonzero(usable)
    values = scores if usable is None else scores[documents]
    if len(values) > depth:
        lowest = np.partition(values, len(values) - depth)[len(values) - depth]
        kept = np.flatnonzero(values >= lowest)
        documents, values = documents[kept], values[kept]
    order = np.argsort(-values, kind="stable")[:depth]
    return Candidates(leg.name, leg.kind, documents[order].astype(np.int64), values[order].astype(np.float64).round(6))
