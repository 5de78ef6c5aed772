"""Turns text into index terms as Lucene's `EnglishAnalyzer` (OpenSearch: `english`) does, with compounds joined first.

A server applies `JOINS` as character filters (`indexes/opensearch/mapping.py`), so that both sides have the same terms.
The next steps are: standard tokens (Unicode word boundaries, UAX #29), removal of possessive 's, lower case, removal of
Lucene's English stop words, Porter stemmer. The code follows the grammar of Lucene's `StandardTokenizerImpl.jflex` and
its `en` package, without Hebrew quotation marks and without emoji sequences of more than one character.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

import regex
import Stemmer

NAME = "vlm4rec_english"
VERSION = 2  # recorded in every release: raise it when the terms of any text change
ID = f"{NAME}@{VERSION}"

_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such "
    "that the their then there these they this to was will with"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
_MAX_LENGTH = 255  # the standard tokenizer cuts longer tokens
_EXTRA = r"[\p{WB=Format}\p{WB=Extend}\p{WB=ZWJ}]*"
_LETTER = rf"[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]{_EXTRA}"
_NUMBER = rf"\p{{WB=Numeric}}{_EXTRA}"
# The colon is MidLetter in Unicode 9, which Lucene follows, but not in later versions.
_MID_LETTER = rf"[:\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_EXTRA}(?={_LETTER})"
_MID_NUMBER = rf"[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_EXTRA}(?={_NUMBER})"
_JOINER = rf"\p{{WB=ExtendNumLet}}{_EXTRA}"
_RUN = rf"(?:(?:\p{{WB=Katakana}}{_EXTRA})+|(?:{_LETTER}(?:{_MID_LETTER})?|{_NUMBER}(?:{_MID_NUMBER})?)+)"
_SINGLE = rf"[\p{{Script=Han}}\p{{Script=Hiragana}}\p{{Extended_Pictographic}}]{_EXTRA}"
_TOKEN = regex.compile(
    rf"(?:{_JOINER})*{_RUN}(?:(?:{_JOINER})+{_RUN})*(?:{_JOINER})*|(?:\p{{LB=Complex_Context}}{_EXTRA})+|{_SINGLE}"
)
# Java converts each code point alone to lower case: no final sigma, no combining dot.
_LOWER = str.maketrans({"\u0130": "i", "\u03a3": "\u03c3"})
_MEASURE = re.compile(r"[aeiou][^aeiou]|[^aeiou]y[^aeiouy]")  # Porter's m > 0: a vowel, then a consonant
_DOUBLES = ("cc", "hh", "jj", "kk", "qq", "vv", "ww", "xx")
_porter = Stemmer.Stemmer("porter")


def _in_any_case(words: str) -> str:
    """Return a pattern of words in any case: spelled out, because Java and Python fold letters differently."""
    spelled = ("".join(f"[{letter}{letter.upper()}]" for letter in word) for word in words.split())
    return f"(?:{'|'.join(spelled)})"


_START, _END = r"(?<![\p{L}\p{N}])", r"(?![\p{L}\p{N}])"
_HYPHEN = r"[-\u2010\u2011]"
_AMOUNT = r"(?<![.,;])[0-9]+(?:[.,][0-9]+)?"
_SPACED = {
    "t": "shirt shirts",
    "v": "neck necks",
    "x": "ray rays",
    "e": "book books reader readers bike bikes scooter scooters",
    "wi": "fi",
}
_UNITS = "inch inches cm mm ml cl kg mg oz lb lbs gb tb mah watt watts pack packs piece pieces pcs"
_COMPOUNDS = [f"({_in_any_case(first)})(?:{_HYPHEN}| )?({_in_any_case(second)})" for first, second in _SPACED.items()]
JOINS: tuple[tuple[str, str], ...] = (
    (rf"{_START}(\p{{L}}{{1,2}}) ?& ?(\p{{L}}{{1,2}}){_END}", "$1$2"),
    *((f"{_START}{compound}{_END}", "$1$2 $2") for compound in _COMPOUNDS),
    (rf"{_START}({_AMOUNT})(?:{_HYPHEN}| )({_in_any_case(_UNITS)}){_END}", "$1$2"),
    (rf"{_START}(\p{{L}}|{_AMOUNT}){_HYPHEN}(\p{{L}}{{3,}}){_END}", "$1$2 $2"),
)
"""What shops spell in several ways becomes one word: (pattern, replacement) in the syntax of Java, applied in order.

- `H&M` and `H & M` become `HM`.
- `t-shirt`, `t shirt` and `tshirt` become `tshirt shirt`: one word, which a search for shirts finds too.
- `5-inch`, `5 inch` and `5inch` become `5inch`.
- Any other single letter or number before a hyphen joins the word after it, which also stays: `3-seater` becomes
  `3seater seater`.
"""
_JOINS = [(regex.compile(pattern), replacement.replace("$", "\\")) for pattern, replacement in JOINS]


def analyze(text: str) -> list[str]:
    """Return the index terms of a text in order, with repetitions."""
    return [term for term, _ in tokens(text)]


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield (term, word) for each token that is no stop word; `word` is the token in lower case before stemming."""
    for word in words(text):
        term = stem(word)
        if term is not None:
            yield term, word


def words(text: str) -> Iterator[str]:
    """Yield the tokens, stop words included, in lower case, without possessive 's, and with compounds joined."""
    for pattern, replacement in _JOINS:
        text = pattern.sub(replacement, text)
    for token in _TOKEN.findall(text.translate(_LOWER).lower()):
        for start in range(0, len(token), _MAX_LENGTH):
            piece = token[start : start + _MAX_LENGTH]
            yield piece[:-2] if len(piece) > 2 and piece[-1] == "s" and piece[-2] in "'\u2019\uff07" else piece


@lru_cache(maxsize=1 << 18)
def stem(word: str) -> str | None:
    """Return the term of a lower-case word, or None for a stop word.

    The term is that of Porter's own revision of the 1980 algorithm, as in Lucene's `PorterStemmer`: words of one or two
    letters stay as they are, `-bli` becomes `-ble` (not only `-abli`), `-logi` becomes `-log`, and a double consonant
    before -ed or -ing becomes single. PyStemmer implements an older version; its later steps do not change these
    endings, so they can be corrected in its result. The terms of 74,877 words equal those of NLTK's
    `MARTIN_EXTENSIONS`.
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
