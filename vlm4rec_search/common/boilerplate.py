"""What many texts of a catalogue say alike tells no items apart, and is neither embedded nor a word of a profile."""

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
SENTENCE_SHARE, SENTENCE_WORDS = 0.2, 4
"""A sentence of so many words that more than this share of the descriptions have may be about the shop.

Shorter ones, such as "100% cotton.", may be what somebody likes.
"""
FEWEST, IN_ALL = 20, 5  # texts: of fewer ones, a word may be in most by chance, and even in all
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_PHRASE_END = re.compile(r"((?:[.;:,]+(?:\s+|$)|\s*[()]+\s*)+)")


def remove_boilerplate(captions: Sequence[str | None]) -> list[str | None]:
    """Return the captions without their boilerplate, None where nothing else is left.

    Words whose terms are in more than `SHARE` of the captions are removed, and phrases of which only stop words would
    be left. In a catalogue of fewer than `FEWEST` captions these are the words that all have, and of fewer than
    `IN_ALL` there are none.

    Args:
        captions: of the items of a catalogue, None for an item without a caption.
    """
    told = [caption for caption in captions if caption]
    frequency = _text_frequency(told)
    most = SHARE * len(told) if len(told) >= FEWEST else len(told) - 1
    common = {term for term, count in frequency.items() if count > most}
    if len(told) < IN_ALL or not common:
        return list(captions)
    terms = cache(_terms)  # a catalogue has few different words
    return [_without(caption, common, terms) if caption else None for caption in captions]


def remove_sentences_of_the_shop(descriptions: Sequence[str | None], titles: Sequence[str | None]) -> list[str | None]:
    """Return descriptions without sentences about the shop, such as "Ships within two days.", None where none is left.

    These are sentences of `SENTENCE_WORDS` words or more that more than `SENTENCE_SHARE` of the descriptions have word
    for word, unless more than half of these items share a word of their titles, as the colours of one product do. A
    catalogue of fewer than `FEWEST` descriptions has none.

    Args:
        descriptions: of the items of a catalogue, None for an item without one.
        titles: of the same items.
    """
    items: dict[str, list[int]] = {}
    for item, description in enumerate(descriptions):
        for key in set(map(_key, _SENTENCE_END.split(description or ""))):
            items.setdefault(key, []).append(item)
    described = sum(map(bool, descriptions))
    if described < FEWEST:
        return list(descriptions)
    of_shop = {
        key
        for key, having in items.items()
        if len(having) > SENTENCE_SHARE * described
        and len(key.split()) >= SENTENCE_WORDS
        and not _share_a_word([titles[item] for item in having])
    }
    return [
        " ".join(each for each in _SENTENCE_END.split(text) if _key(each) not in of_shop) or None if text else text
        for text in descriptions
    ]


def _share_a_word(titles: Sequence[str | None]) -> bool:
    """Return whether more than half of some titles share a word."""
    return max(_text_frequency(titles).values(), default=0) > len(titles) / 2


def _text_frequency(texts: Sequence[str | None]) -> Counter[str]:
    """Return in how many texts each term is."""
    return Counter(term for text in texts for term in set(_terms(text or "")))


def _key(sentence: str) -> str:
    return sentence.strip(" .!?").casefold()


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
