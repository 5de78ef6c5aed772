"""Why a hit is there: what each leg gave, which history items and words that came from, and one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHOWN = 3
TASTES = ("profile", "interest", "session")  # semantic legs that come from a history


@dataclass(frozen=True, slots=True)
class LegPart:
    """One leg's view of a hit.

    Attributes:
        name: profile, interest, session, text, words, co-purchase or popularity.
        kind: semantic, lexical, behaviour or popularity.
        score: cosine, weighted BM25, summed co-purchase, or interactions.
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
    """A history item's part of a leg's score; it is negative where the item speaks against the hit."""

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
    """Reasons for one hit; shares of `history` and `rest` add up to the semantic leg's score, `words` to the words',
    `bought_with` and `bought_rest` to the co-purchase leg's.

    Attributes:
        sentence: the reasons for people.
        legs: every leg of the query.
        history: the items that contributed most, best first; of several interests, the one that is nearest to the hit.
        rest: the sum of the shares of all other history items, those that the release lacks included.
        words: the matched words, best first.
        bought_with: the items that are bought by the same shoppers, best first.
        bought_rest: the sum of the shares of all others.
        rules: what diversity and the rules of the business did to the hit.
    """

    sentence: str
    legs: tuple[LegPart, ...]
    history: tuple[HistoryPart, ...] = ()
    rest: float = 0.0
    words: tuple[WordPart, ...] = ()
    bought_with: tuple[HistoryPart, ...] = ()
    bought_rest: float = 0.0
    rules: tuple[str, ...] = ()


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
