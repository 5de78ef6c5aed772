"""Turns text into index terms in the language of a catalogue, exactly as the analyzer that an index on a server gets.

The steps are those of `Language`: replacements on the whole text (character filters on a server, see
`indexes/opensearch/mapping.py`), standard tokens (Unicode word boundaries, UAX #29), lower case, stop words, stemmer.
For English they are those of Lucene's `EnglishAnalyzer` (OpenSearch: `english`), with compounds joined first. The code
follows the grammar of Lucene's `StandardTokenizerImpl.jflex`, without Hebrew quotation marks and without emoji
sequences of more than one character.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache

import regex

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.languages import END, LANGUAGES, START, Language, in_any_case
from vlm4rec_search.common.stemmers import STEMMERS

STOP_WORD_MARK = "_"  # follows each stop word of a text that has no other words, so that the text can be found
_MAX_LENGTH = 255  # the standard tokenizer cuts longer tokens
_EXTRA = r"[\p{WB=Format}\p{WB=Extend}\p{WB=ZWJ}]*"
# The cedilla alone is a letter in later versions of Unicode.
_LETTER = rf"(?!\u00b8)[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]{_EXTRA}"
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
_KATAKANA, _HANGUL = rf"(?:\p{{WB=Katakana}}{_EXTRA})+", rf"(?:\p{{Script=Hangul}}{_EXTRA})+"
_CJK = regex.compile(rf"[\p{{Script=Han}}\p{{Script=Hiragana}}]{_EXTRA}|{_KATAKANA}|{_HANGUL}")


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
_COMPOUNDS = [f"({in_any_case(first)})(?:{_HYPHEN}| )?({in_any_case(second)})" for first, second in _SPACED.items()]
JOINS: tuple[tuple[str, str], ...] = (
    (rf"{START}(\p{{L}}{{1,2}}) ?& ?(\p{{L}}{{1,2}}){END}", "$1$2"),
    *((f"{START}{compound}{END}", "$1$2 $2") for compound in _COMPOUNDS),
    (rf"{START}({_AMOUNT})(?:{_HYPHEN}| )({in_any_case(_UNITS)}){END}", "$1$2"),
    (rf"{START}(\p{{L}}|{_AMOUNT}){_HYPHEN}(\p{{L}}{{3,}}){END}", "$1$2 $2"),
)
"""What shops spell in several ways becomes one word: (pattern, replacement) in the syntax of Java, applied in order.

- `H&M` and `H & M` become `HM`.
- `t-shirt`, `t shirt` and `tshirt` become `tshirt shirt`: one word, which a search for shirts finds too.
- `5-inch`, `5 inch` and `5inch` become `5inch`.
- Any other single letter or number before a hyphen joins the word after it, which also stays: `3-seater` becomes
  `3seater seater`.
"""

# Letters that lose their accents: Latin and Greek, with what Unicode does not decompose.
_FOLDED = (*range(0xC0, 0x250), *range(0x370, 0x400), *range(0x1E00, 0x2000))
_WHOLE = {
    "\u00c6": "AE", "\u00d0": "D", "\u00d8": "O", "\u00de": "TH", "\u0110": "D", "\u0126": "H", "\u0131": "i",
    "\u0141": "L", "\u0152": "OE", "\u00df": "ss", "\u00e6": "ae", "\u00f0": "d", "\u00f8": "o", "\u00fe": "th",
    "\u0111": "d", "\u0127": "h", "\u0142": "l", "\u0153": "oe", "\u1e9e": "SS",
}  # fmt: skip
_MARKS = [chr(code) for code in range(0x300, 0x370)]
_COMPOSED = (*_FOLDED, *range(0x400, 0x530))  # letters that may be written with a mark of its own
_SEPARATORS = r"[ \t\n!?,;\"()\u2026-]"


class Analyzer:
    """Cuts the texts of one language into index terms; `load_analyzer` makes it.

    Attributes:
        language: the definition.
        name: of the analyzer on a server.
        id: name and version, which releases record.
        joins, mapped, replacements: what is replaced before a text is cut into tokens, in this order. Joins and
            replacements are (pattern, replacement) in the syntax of Java, applied in order; `mapped` says what stands
            for a letter, or for a letter with marks, of which the longest that fits counts.
        stop_words: as they are after the replacements.
    """

    def __init__(self, language: Language) -> None:
        self.language, self.name = language, f"vlm4rec_{language.name}"
        self.id = f"{self.name}@{language.version}"
        self.mapped = _folding(language.keeps) if language.folds else _widths() if language.widths else {}
        self._mapped = _any_of(self.mapped) if self.mapped else None
        self.joins = JOINS if language.joins else ()
        self._joins = _compiled(self.joins)
        self._replacements = _compiled(language.replacements)
        self._keep: list[tuple[regex.Pattern[str], str]] = []
        self.stop_words = frozenset(self._replace(word) for word in language.stop_words.split())
        self.replacements = (*language.replacements, *self._keep_stop_words())
        self._keep = _compiled(self.replacements[len(language.replacements) :])
        self._stem = STEMMERS[language.stemmer] if language.stemmer else str
        self.stem = lru_cache(maxsize=1 << 18)(self._stem_or_stop)

    def analyze(self, text: str) -> list[str]:
        """Return the index terms of a text in order, with repetitions."""
        return [term for term, _ in self.tokens(text)]

    def tokens(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield (term, word) for each token that is a term; `word` is the token in lower case before stemming."""
        for word in self.words(text):
            term = self.stem(word)
            if term is not None:
                yield term, word.removesuffix(STOP_WORD_MARK) if term.endswith(STOP_WORD_MARK) else word

    def words(self, text: str) -> Iterator[str]:
        """Yield the tokens, stop words included, in lower case, without possessive 's, and with compounds joined."""
        if self.language.bigrams:
            return _bigrams(self._lowered(text))
        return self._pieces(_TOKEN.findall(self._lowered(text)))

    def _lowered(self, text: str) -> str:
        return self._replace(text).translate(_LOWER).lower()

    def _replace(self, text: str) -> str:
        for pattern, replacement in self._joins:
            text = pattern.sub(replacement, text)
        if self._mapped is not None and not text.isascii():
            text = self._mapped.sub(lambda found: self.mapped[found[0]], text)
        for pattern, replacement in self._replacements:
            text = pattern.sub(replacement, text)
        for pattern, replacement in self._keep:
            if pattern.match(text):  # a search through a text that begins otherwise takes long
                text = pattern.sub(replacement, text)
        return text

    def _keep_stop_words(self) -> Iterator[tuple[str, str]]:
        """Yield the replacement that marks the stop words of a text that has no other words: `IT`, `To be or not`."""
        if self.stop_words:
            words = in_any_case(" ".join(sorted(self.stop_words)))
            alone = rf"{_SEPARATORS}*(?:{words}{_SEPARATORS}+)*{words}[.:]?{_SEPARATORS}*$"
            yield rf"(?:^(?={alone})|\G(?!^))({_SEPARATORS}*)({words})(?![\p{{L}}\p{{N}}_'])", f"$1$2{STOP_WORD_MARK}"

    def _pieces(self, found: Iterable[str]) -> Iterator[str]:
        is_possessive = self.language.possessive
        for token in found:
            for start in range(0, len(token), _MAX_LENGTH):
                piece = token[start : start + _MAX_LENGTH]
                if is_possessive and len(piece) > 2 and piece[-1] == "s" and piece[-2] in "'\u2019\uff07":
                    piece = piece[:-2]
                yield piece

    def _stem_or_stop(self, word: str) -> str | None:
        return None if word in self.stop_words else self._stem(word)


def _compiled(replacements: Iterable[tuple[str, str]]) -> list[tuple[regex.Pattern[str], str]]:
    return [(regex.compile(pattern), replacement.replace("$", "\\")) for pattern, replacement in replacements]


def _folding(keeps: str) -> dict[str, str]:
    """Return what stands for each letter with an accent; one of `keeps` stands for itself, in whatever form."""
    table = {letter: whole for letter, whole in _WHOLE.items() if letter not in keeps} | dict.fromkeys(_MARKS, "")
    for code in _COMPOSED:
        letter = chr(code)
        parts = unicodedata.normalize("NFD", letter)
        if len(parts) == 1 or not letter.isalpha():
            continue
        if code in _FOLDED and letter not in keeps:
            table[letter] = "".join(_WHOLE.get(part, part) for part in parts if part not in _MARKS)
        elif all(part in _MARKS for part in parts[1:]):
            table[parts] = letter
    return table


def _widths() -> dict[str, str]:
    """Return the usual form of each letter of another width; half-width katakana may have a mark after it."""
    letters = [chr(code) for code in (*range(0xFF01, 0xFF5F), *range(0xFF66, 0xFF9E))]
    marked = [letter + mark for letter in letters[94:] for mark in "\uff9e\uff9f"]
    table = {letter: unicodedata.normalize("NFKC", letter) for letter in (*letters, *marked)}
    return {letter: usual for letter, usual in table.items() if len(usual) == 1}


def _any_of(table: dict[str, str]) -> regex.Pattern[str]:
    long, short = [key for key in table if len(key) > 1], "".join(key for key in table if len(key) == 1)
    return regex.compile("|".join([*sorted(long, key=len, reverse=True), f"[{regex.escape(short)}]"]))


def _bigrams(text: str) -> Iterator[str]:
    """Yield the tokens of a text, and of neighbouring Chinese, Japanese and Korean characters each two."""
    run, end = "", -1
    for found in _TOKEN.finditer(text):
        token = found.group()
        in_run = is_cjk(token)
        if run and not (in_run and found.start() == end):
            yield from _pairs(run)
            run = ""
        if in_run:
            run, end = run + token, found.end()
        else:
            yield from (token[start : start + _MAX_LENGTH] for start in range(0, len(token), _MAX_LENGTH))
    yield from _pairs(run)


def is_cjk(token: str) -> bool:
    """Return whether a token is Chinese, Japanese or Korean, of which bigrams are made."""
    return _CJK.fullmatch(token) is not None


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or ([run] if run else [])


@cache
def load_analyzer(name: str) -> Analyzer:
    """Return the analyzer of a language, by its name, or by the id that a release records.

    Raises:
        UsageError: there is no such language.
    """
    language = LANGUAGES.get(name.partition("@")[0].removeprefix("vlm4rec_"))
    if language is None:
        raise UsageError(f"there is no analyzer {name}; languages are {', '.join(LANGUAGES)}")
    return Analyzer(language)


ENGLISH = load_analyzer("english")
IDS = frozenset(f"vlm4rec_{each.name}@{each.version}" for each in LANGUAGES.values()) | {"vlm4rec_english@2"}
"""The analyzers of the releases that this package reads; English 2 has no terms for a text of stop words alone."""


def analyze(text: str) -> list[str]:
    """Return the index terms of an English text, such as a caption, in order, with repetitions."""
    return ENGLISH.analyze(text)


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield (term, word) for each token of an English text that is a term, see `Analyzer.tokens`."""
    return ENGLISH.tokens(text)
