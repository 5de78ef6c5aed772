"""What most captions of a catalogue say alike tells no items apart, and is neither embedded nor a word of a profile."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from vlm4rec_search.common.analyzer import STOP_WORD_MARK, analyze

SHARE = 0.4
"""A term of more than this share of the captions is boilerplate.

A trait with three values, such as what an item is used for, may have a third of the captions; the templates of
`attributes` have half of them or more.
"""
FEWEST = 20  # captions: of fewer ones, a word may be in most by chance
_PHRASE_END = re.compile(r"((?:[.;:,]+(?:\s+|$)|\s*[()]+\s*)+)")


def remove_boilerplate(captions: Sequence[str | None]) -> list[str | None]:
    """Return the captions without their boilerplate, None where nothing else is left.

    Words whose terms are in more than `SHARE` of the captions are removed, and phrases of which only stop words would
    be left. A catalogue of fewer than `FEWEST` captions has no boilerplate.

    Args:
        captions: of the items of a catalogue, None for an item without a caption.
    """
    told = [caption for caption in captions if caption]
    frequency = Counter(term for caption in told for term in set(_terms(caption)))
    common = {term for term, count in frequency.items() if count > SHARE * len(told)}
    if len(told) < FEWEST or not common:
        return list(captions)
    terms = cache(_terms)  # a catalogue has few different words
    return [_without(caption, common, terms) if caption else None for caption in captions]


def _terms(text: str) -> list[str]:
    # A phrase of stop words alone has no terms here.
    return [term for term in analyze(text) if not term.endswith(STOP_WORD_MARK)]


def _without(caption: str, common: set[str], terms: Callable[[str], list[str]]) -> str | None:
    pieces = _PHRASE_END.split(caption)  # phrases, each followed by its end
    kept: list[str] = []
    for phrase, end in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        words = [word for word in phrase.split() if not terms(word) or not common.issuperset(terms(word))]
        if any(map(terms, words)):
            kept += [" ".join(words), end]
    return "".join(kept).rstrip(" ,;:(") or None
