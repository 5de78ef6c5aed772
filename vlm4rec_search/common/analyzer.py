"""The one analyzer of the lexical score: what Lucene's `EnglishAnalyzer` (OpenSearch: `english`) does to a text.

Standard tokens (Unicode word boundaries, UAX #29), possessive 's removed, lower case, Lucene's English stop words,
Porter stemmer. Written from the grammar of Lucene's `StandardTokenizerImpl.jflex` and its `en` package; left out are
Hebrew quotation marks and emoji sequences longer than one sign.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

import regex
import Stemmer

NAME = "english"
VERSION = 1  # part of every release: raise it when the tokens of any text change
ID = f"{NAME}@{VERSION}"

_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such "
    "that the their then there these they this to was will with"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
_LONGEST = 255  # the standard tokenizer cuts longer tokens
_EXTRA = r"[\p{WB=Format}\p{WB=Extend}\p{WB=ZWJ}]*"
_LETTER = rf"[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]{_EXTRA}"
_NUMBER = rf"\p{{WB=Numeric}}{_EXTRA}"
# Lucene's Unicode 9 counts the colon as MidLetter, which later versions of the annex do not
_MID_LETTER = rf"[:\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_EXTRA}(?={_LETTER})"
_MID_NUMBER = rf"[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_EXTRA}(?={_NUMBER})"
_JOINER = rf"\p{{WB=ExtendNumLet}}{_EXTRA}"
_RUN = rf"(?:(?:\p{{WB=Katakana}}{_EXTRA})+|(?:{_LETTER}(?:{_MID_LETTER})?|{_NUMBER}(?:{_MID_NUMBER})?)+)"
_SINGLE = rf"[\p{{Script=Han}}\p{{Script=Hiragana}}\p{{Extended_Pictographic}}]{_EXTRA}"
_TOKEN = regex.compile(
    rf"(?:{_JOINER})*{_RUN}(?:(?:{_JOINER})+{_RUN})*(?:{_JOINER})*|(?:\p{{LB=Complex_Context}}{_EXTRA})+|{_SINGLE}"
)
# Java lowers code point by code point: no final sigma, no combining dot
_LOWER = str.maketrans({"\u0130": "i", "\u03a3": "\u03c3"})
_MEASURE = re.compile(r"[aeiou][^aeiou]|[^aeiou]y[^aeiouy]")  # Porter's m > 0: a vowel, then a consonant
_DOUBLES = ("cc", "hh", "jj", "kk", "qq", "vv", "ww", "xx")
_porter = Stemmer.Stemmer("porter")


def analyze(text: str) -> list[str]:
    """Return the index terms of a text, in order, with repetitions."""
    return [term for term, _ in tokens(text)]


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield (term, word) of each token that is no stop word; word is the lower-case surface form."""
    for word in words(text):
        term = stem(word)
        if term is not None:
            yield term, word


def words(text: str) -> Iterator[str]:
    """Yield the standard tokens in lower case without possessive 's, stop words included."""
    for token in _TOKEN.findall(text.translate(_LOWER).lower()):
        for start in range(0, len(token), _LONGEST):
            piece = token[start : start + _LONGEST]
            yield piece[:-2] if len(piece) > 2 and piece[-1] == "s" and piece[-2] in "'\u2019\uff07" else piece


@lru_cache(maxsize=1 << 18)
def stem(word: str) -> str | None:
    """Return the term of a lower-case word, None for a stop word.

    Porter's own revision of the 1980 algorithm, as in Lucene's `PorterStemmer`: words of one or two letters stay,
    `-bli` becomes `-ble` (not only `-abli`), `-logi` becomes `-log`, and every double consonant that -ed or -ing leaves
    becomes single. PyStemmer has an older form, whose later steps leave these endings alone, so that they can be told
    from its result. Equal to NLTK's `MARTIN_EXTENSIONS` on 74,877 words.
    """
    if word in STOP_WORDS:
        return None
    if len(word) < 3:
        return word
    term: str = _porter.stemWord(word)
    if term.endswith("bli") and _MEASURE.search(term[:-3]):
        term = _porter.stemWord(term[:-1] + "e")
    elif term.endswith("logi") and _MEASURE.search(term[:-4]):
        term = term[:-1]
    elif term.endswith(_DOUBLES) and word.removeprefix(term) in ("ed", "eds", "ing", "ings"):
        term = _porter.stemWord(term[:-1])
    return term
