"""Why a hit is there: what each leg gave, which history items and words that came from, and one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHOWN = 3


@dataclass(frozen=True, slots=True)
class LegPart:
    """One leg's view of a hit.

    Attributes:
        name: profile, text, words or popularity.
        kind: semantic, lexical or popularity.
        score: cosine, weighted BM25, or interactions.
        rank: place among the leg's candidates, None when it is not one of them.
        contribution: what the leg adds to the hit's score.
    """

    name: str
    kind: str
    score: float
    rank: int | None
    contribution: float


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """A history item's part of the profile leg's score; it is negative where the item speaks against the hit."""

    item_id: str
    title: str
    share: float


@dataclass(frozen=True, slots=True)
class WordPart:
    """A matched word's part of the lexical leg's score."""

    word: str
    share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Reasons for one hit; shares of `history` and `rest` add up to the profile leg's score, `words` to the words'.

    Attributes:
        sentence: the reasons for people.
        legs: every leg of the query.
        history: the items that contributed most, best first.
        rest: the sum of the shares of all other history items, those that the release lacks included.
        words: the matched words, best first.
    """

    sentence: str
    legs: tuple[LegPart, ...]
    history: tuple[HistoryPart, ...] = ()
    rest: float = 0.0
    words: tuple[WordPart, ...] = ()


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
    legs: Sequence[LegPart], history: Sequence[HistoryPart], words: tuple[WordPart, ...], text: str | None
) -> Explanation:
    """Return the explanation of a hit from its parts.

    Args:
        legs: every leg of the query.
        history: all history items; the three with the largest shares are kept, the others summed up.
        words: the matched words.
        text: the text that was searched for.
    """
    shown = tuple(sorted(history, key=lambda part: (-part.share, part.item_id))[:SHOWN])
    shown = tuple(part for part in shown if part.share > 0.0)
    score = next((leg.score for leg in legs if leg.name == "profile"), 0.0)
    rest = round(score - sum(part.share for part in shown), 6)
    return Explanation(_sentence(legs, shown, score, words, text), tuple(legs), shown, rest, words)


def _sentence(
    legs: Sequence[LegPart],
    history: Sequence[HistoryPart],
    score: float,
    words: Sequence[WordPart],
    text: str | None,
) -> str:
    reasons = []
    if history and score > 0.0:
        names = [f'"{part.title}" ({part.share / score:.0%})' for part in history]
        reasons.append(f"resembles {_list(names)} of the history")
    meaning = next((leg.score for leg in legs if leg.name == "text"), 0.0)
    if meaning > 0.0:
        reasons.append(f'is near "{text}" in meaning ({meaning:.2f})')
    if words:
        noun = "word" if len(words) == 1 else "words"
        reasons.append(f"shares the {noun} {_list([part.word for part in words[:5]])}")
    for leg in legs:
        if leg.kind == "popularity":
            reasons.append(f"is popular with everyone ({leg.score:,.0f} interactions)")
    sentence = "; ".join(reasons) or "is among the nearest that there are"
    return sentence[0].upper() + sentence[1:] + "."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
