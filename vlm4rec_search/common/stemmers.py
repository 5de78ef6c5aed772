"""Stemmers: each gives the terms of the server's stemmer of the same name.

Snowball's stemmers of PyStemmer are used where those of Lucene are of the same version. The others are Savoy's light
stemmers ("Light stemming approaches for the French, Portuguese, German and Hungarian languages", 2006; CLEF reports of
2001 and 2003), which Lucene has, too, and prefers for these languages. They expect words in lower case without accents.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial

import Stemmer

_MEASURE = re.compile(r"[aeiou][^aeiou]|[^aeiou]y[^aeiouy]")  # Porter's m > 0: a vowel, then a consonant
_DOUBLES = ("cc", "hh", "jj", "kk", "qq", "vv", "ww", "xx")
_porter = Stemmer.Stemmer("porter")

# (letters, ending, what replaces it): a word with at least so many letters loses the ending; the first that fits counts
_Rules = tuple[tuple[int, str, str], ...]
_GERMAN = (
    re.compile(r"(?<=...)ern$|(?<=...)e[mnrs]$|(?<=...)e$|(?<=..[bdfghklmnt])s$"),
    re.compile(r"(?<=...)est$|(?<=...)e[rn]$|(?<=..[bdfghklmnt])st$"),
)
_SPANISH = re.compile(r"[oae]s?$")
_SWEDISH = re.compile(
    r"(?<=...)(?:elser|heten)$|(?<=...)(?:arne|erna|ande|else|aste|orna|aren)$"
    r"|(?<=...)(?:are|ast|het)$|(?<=...)(?:[aeo]r|en|at|te|et)$|(?<=...)[taen]$"
)
_REPEATED = re.compile(r"(.)\1+")
_FRENCH: _Rules = (
    (10, "issement", "ir"),
    (9, "issant", "ir"),
    (8, "ivement", "if"),
    (7, "ement", "e"),
    (12, "ficatrice", "fier"),
    (11, "ficateur", "fier"),
    (10, "catrice", "quer"),
    (9, "cateur", "quer"),
    (9, "atrice", "er"),
    (8, "ateur", "er"),
    (8, "trice", "ter"),
    (7, "trice", "teur"),
    (8, "teuse", "ter"),
    (7, "teur", "ter"),
    (6, "euse", "eu"),
    (8, "ive", "if"),
    (5, "folle", "fou"),
    (5, "molle", "mou"),
    (10, "nnelle", "n"),
    (10, "nnel", "n"),
)
_FRENCH_LATER: _Rules = (
    (9, "esse", "e"),
    (8, "inage", "in"),
    (13, "ualisation", "uel"),
    (10, "isation", ""),
    (10, "isateur", ""),
    (9, "ation", ""),
    (9, "ition", ""),
)


def porter(word: str) -> str:
    """Return the stem of an English word by Porter's own revision of the 1980 algorithm, as Lucene's `PorterStemmer`.

    Words of one or two letters stay as they are, `-bli` becomes `-ble` (not only `-abli`), `-logi` becomes `-log`, and
    a double consonant before -ed or -ing becomes single. PyStemmer implements an older version; its later steps do not
    change these endings, so they can be corrected in its result. The terms of 74,877 words equal those of NLTK's
    `MARTIN_EXTENSIONS`.
    """
    if len(word) < 3:
        return word
    term: str = _porter.stemWord(word)
    if term.endswith("bli") and _MEASURE.search(term[:-3]):
        term = _porter.stemWord(term[:-1] + "e")
    elif term.endswith("logi") and not word.endswith("logie") and _MEASURE.search(term[:-4]):
        term = term[:-1]
    elif term.endswith(_DOUBLES) and word.removeprefix(term) in ("ed", "eds", "ing", "ings"):
        term = _porter.stemWord(term[:-1])
    return term


def light_german(word: str) -> str:
    """Return the stem of a German word."""
    for ending in _GERMAN:
        word = ending.sub("", word, count=1)
    return word


def light_spanish(word: str) -> str:
    """Return the stem of a Spanish word; words of less than five letters stay as they are."""
    if len(word) < 5:
        return word
    if word.endswith("ces"):
        return word[:-3] + "z"
    return _SPANISH.sub("", word, count=1)


def light_swedish(word: str) -> str:
    """Return the stem of a Swedish word."""
    if word.endswith("s") and len(word) > 4:
        word = word[:-1]
    return _SWEDISH.sub("", word, count=1)


def light_french(word: str) -> str:
    """Return the stem of a French word."""
    if word.endswith("x") and len(word) > 5:
        word = f"{word[:-2]}l" if word.endswith("aux") and word[-4] != "e" else word[:-1]
    for plural in "xs":
        if word.endswith(plural) and len(word) > 3:
            word = word[:-1]
    if (stem := _replace_ending(word, _FRENCH)) is not None:
        return _light_french_end(stem)
    if word.endswith("ique") and len(word) > 8:
        word = word[:-4]
    stem = _replace_ending(word, _FRENCH_LATER)
    return _light_french_end(word if stem is None else stem)


def _light_french_end(word: str) -> str:
    if len(word) > 4:
        word = _REPEATED.sub(lambda run: run[1] if run[1].isalpha() else run[0], word)
    if word.endswith("ie") and len(word) > 4:
        word = word[:-2]
    if len(word) > 4:
        word = word.removesuffix("r").removesuffix("e").removesuffix("e")
        if word[-1] == word[-2] and word[-1].isalpha():
            word = word[:-1]
    return word


def _replace_ending(word: str, rules: _Rules) -> str | None:
    length = len(word)
    for least, ending, replacement in rules:
        if length >= least and word.endswith(ending):
            return word[: -len(ending)] + replacement
    return None


def _snowball(algorithm: str) -> Callable[[str], str]:
    stem: Callable[[str], str] = partial(Stemmer.Stemmer(algorithm).stemWord)
    return stem


STEMMERS: Mapping[str, Callable[[str], str]] = {
    "porter_stem": porter,
    "light_german": light_german,
    "light_french": light_french,
    "light_spanish": light_spanish,
    "light_swedish": light_swedish,
    "italian": _snowball("italian"),
    "portuguese": _snowball("portuguese"),
    "dutch": _snowball("dutch_porter"),  # Snowball 3 has given the name dutch to another algorithm
}
"""By the name of the server's filter."""
