"""Validation of captions: every answer of a model gets a status, and only captions with the status ok are searched.

The most elaborate check is for an echo: a caption that follows an instruction hidden in the item's title or category.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping

from vlm4rec_search.captioning.base import Context
from vlm4rec_search.common.analyzer import analyze, tokens
from vlm4rec_search.common.languages import FUNCTION_WORDS
from vlm4rec_search.common.patterns import MARKUP, REFUSAL

VERSION = "status-4"
"""Change this when a rule changes: the next plan then validates the cached captions again."""

LONGEST, LONGEST_FIELD = 2000, 80
"""The largest number of characters of a caption, and of a field of a structured answer."""
PHRASE_WORDS, REPEATS = 12, 4

_REFUSAL, _MARKUP = re.compile(REFUSAL), re.compile(f"{MARKUP}|```")
# A statistical detector (py3langid) is no substitute: it takes English fragments such as "beige" for German.
_ALSO_IN_ENGLISH = (  # or parts of names
    "door van den met pour son ton die war dos com de la le el du des bin per pro se era las los come"
)
_ENGLISH = FUNCTION_WORDS["english"]
_OWN_WORDS = {
    language: {word for word in words - _ENGLISH - {*_ALSO_IN_ENGLISH.split()} if len(word) > 1}
    for language, words in FUNCTION_WORDS.items()
}
_FEW_WORDS, _PROSE_WORDS, _PROSE_RUN, _RARE = 5, 10, 5, 15


def validate_caption(caption: str, context: Context, fields: Mapping[str, str] | None = None) -> tuple[str, str | None]:
    """Return the status of a caption and the reason for it, None for ok.

    The status is the first that applies of refused, empty (no words), markup, echo (follows an instruction in title or
    category), repeated, too_long (more than `LONGEST` characters) and wrong_language (not English); otherwise ok.
    The `fields` of a structured answer become attributes that customers filter by, so one bad field spoils the whole
    answer. A field may lack words and is too long above `LONGEST_FIELD` characters; the other rules are the same.
    """
    if (fault := next(_find_faults(caption, context, LONGEST), None)) is not None:
        return fault
    for name, value in (fields or {}).items():
        faults = (fault for fault in _find_faults(value, context, LONGEST_FIELD) if fault[0] != "empty")
        if (fault := next(faults, None)) is not None:
            return fault[0], f"{name}: {fault[1]}"
    return "ok", None


def _find_faults(text: str, context: Context, longest: int) -> Iterator[tuple[str, str]]:
    if match := _REFUSAL.search(text):
        yield "refused", f'the captioner declines: "{match.group().strip()}"'
    if not re.search(r"[^\W\d_]{2}", text):
        yield "empty", "the answer has no words"
    if match := _MARKUP.search(text):
        yield "markup", f'the answer contains markup: "{match.group()[:40]}"'
    if words := find_echo(text, context):
        yield "echo", f'the answer follows an instruction in the catalogue text: "{words}"'
    if phrase := find_repetition(text):
        yield "repeated", f'the answer repeats itself: "{phrase[:80]}"'
    if len(text) > longest:
        yield "too_long", f"the answer has {len(text):,} characters, at most {longest:,} are allowed"
    if language := find_foreign_language(text):
        yield "wrong_language", f"the answer is {language}; captions have to be English"


def find_repetition(caption: str) -> str | None:
    """Return the phrase that a text keeps repeating, or None.

    A text repeats itself when it has a phrase of 3 to `PHRASE_WORDS` words `REPEATS` times in a row, a phrase of one
    or two words twice as often, or, with 24 or more windows of four words, fewer than half of them distinct.
    """
    words = re.findall(r"\w+(?:['\u2019-]\w+)*", caption.lower())
    for length in range(1, PHRASE_WORDS + 1):
        run = 0
        for at in range(length, len(words)):
            run = run + 1 if words[at] == words[at - length] else 0
            if run >= length * ((REPEATS if length > 2 else 2 * REPEATS) - 1):
                return " ".join(words[at - length + 1 : at + 1])
    windows = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    if windows.total() >= 24 and len(windows) < windows.total() / 2:
        return " ".join(windows.most_common(1)[0][0])
    return None


def find_foreign_language(caption: str) -> str | None:
    """Return the language of a text that is clearly not English, "in another script" or "in another language", or None.

    A text is foreign when more than a third of its letters are outside the Latin script. It is of another language when
    it has at least three different function words of it and more of them than English ones; of five words or more, two
    such words and no English one are enough. A text with letters beyond ASCII is foreign as well when fewer than one of
    15 words is an English function word, unless it has fewer than ten words, or is a list: with fewer than five words
    between two signs.
    """
    letters = [letter for letter in caption if letter.isalpha()]
    non_latin = sum(ord(letter) > 0x24F and not 0x1E00 <= ord(letter) < 0x1F00 for letter in letters)
    if letters and non_latin > len(letters) / 3:
        return "in another script"
    runs = [
        re.findall(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*", run) for run in re.split(r"[^\w\s'\u2019-]", caption.lower())
    ]
    words = [word for run in runs for word in run]
    distinct = set(words)  # a name that comes twice, such as iPhone 15 Pro, is one sign of a language
    counts = {language: len(distinct & own) for language, own in _OWN_WORDS.items()}
    language = max(counts, key=lambda name: counts[name])
    english = sum(word in _ENGLISH and word not in FUNCTION_WORDS[language] for word in words)
    if counts[language] > max(2, english) or (counts[language] == 2 and not english and len(words) >= _FEW_WORDS):
        return language.title()
    is_prose = not caption.isascii() and len(words) >= _PROSE_WORDS and max(map(len, runs)) >= _PROSE_RUN
    if is_prose and sum(word in _ENGLISH for word in words) * _RARE < len(words):
        return "in another language"
    return None


_GAP = r"[\W_]+"
_VERB = (
    r"(?:write|say|print|output|reply|respond|answer|repeat|return|state|claim|mention|call\W+it|describe\W+it\W+as)"
)
_OVERRIDE = re.compile(
    rf"\b(?:ignore|disregard|forget|override|bypass|skip){_GAP}(?:about{_GAP})?(?:the|this|that|all|any|your|every|previous"
    rf"|prior)(?:{_GAP}[^\W_]+){{0,3}}?{_GAP}(?:photo|image|picture|prompt|instructions?|rules?|text|above)(?![^\W_])"
    rf"|\b(?:ignore|disregard|forget){_GAP}everything\b"
    rf"|\b(?:system|assistant)\s*:{_GAP}(?:please\s+)?{_VERB}\b"
    rf"|\byou{_GAP}(?:must|have\s+to|should|are\s+now\s+to){_GAP}(?:(?:only|just|always|now){_GAP})?{_VERB}\b"
    rf"|\byou{_GAP}are{_GAP}now{_GAP}(?:an?|the)\b",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    rf"\b{_VERB}\b(?:{_GAP}(?:with|that|only|just|exactly|(?:the{_GAP})?(?:words?|text|phrase|sentence))\b)*[\s:]*",
    re.IGNORECASE,
)
_QUOTED = r"(?:\"([^\"]+)\"|'(.+?)'(?!\w)|\u201c(.+?)\u201d|\u2018(.+?)\u2019(?!\w)|«(.+?)»)"
_QUOTATION = re.compile(rf"\s*{_QUOTED}")
_PRINTED = re.compile(rf"(?<!\w){_QUOTED}")
_BARE_ORDER = re.compile(
    r"\b(?:[Ww]rite|[Ss]ay|[Aa]nswer|[Rr]eply|[Oo]utput|[Rr]epeat)[\s:]+(\"[^\"]+\"|[A-Z]{2,}(?:\s+[A-Z]{2,})+)"
)
_SHOUTED = re.compile(r"\b[A-Z]{2,}(?:\s+[A-Z]{2,})+\b")
_SPELT = re.compile(r"(?<![^\W_])(?:[^\W\d_][ ._*-]){3,}[^\W\d_](?![^\W_])")  # B U Y, I.G.N.O.R.E
_LOOK_ALIKES = str.maketrans("АВЕКМНОРСТХаеіорсухѕ", "ABEKMHOPCTXaeiopcyxs")  # noqa: RUF001  Cyrillic to Latin
_LONGEST_TITLE = 1_000  # characters; prompts show fewer, and the time of the check grows with their square
_SHORTEST_ORDER = 6  # letters; a shorter order is not searched for without its gaps


def find_echo(caption: str, context: Context) -> str | None:
    """Return the words with which a caption repeats an instruction in title or category, or None.

    An instruction is a sentence that overrides the task ("ignore the photo", "you must write", "system: say") together
    with the text that it dictates, or a shouted order alone ("say BUY NOW"). A caption repeats it when it contains two
    consecutive index terms of the order, its only term, or all of its letters. Case, punctuation, white space,
    invisible characters, full-width and look-alike Cyrillic letters, and letters spelt with gaps make no difference.

    The override itself and a shouted order may be printed on the product, so a caption may quote them if it says more.
    A title without an instruction may be repeated freely. Only English instructions are recognised.
    """
    for text in (context.title, context.category):
        dictated, slogans = _find_orders(_unmask(text[:_LONGEST_TITLE]))
        if dictated or slogans:
            plain = _unmask(caption)
            words = _find_repeated_order(plain, dictated)
            if words := words or _find_repeated_order(_without_quotations(plain), slogans):
                return words
    return None


def _unmask(text: str) -> str:
    """Undo disguises that hide words from a search but not from a reader."""
    if not text.isascii():
        wide = unicodedata.normalize("NFKC", text)
        text = "".join(sign for sign in wide if unicodedata.category(sign) != "Cf").translate(_LOOK_ALIKES)
    return _SPELT.sub(lambda spelt: re.sub(r"[ ._*-]", "", spelt.group()), text).replace("_", " ")


def _find_orders(text: str) -> tuple[list[str], list[str]]:
    """Return the texts that an instruction dictates, and the instructions that may be printed on the product."""
    shouts = [match.group(1) for match in _BARE_ORDER.finditer(text)]
    override = _OVERRIDE.search(text)
    if override is None:
        return [], shouts
    dictated = list(_find_dictated(text))
    if not text.isupper():
        dictated += [match.group() for match in _SHOUTED.finditer(text, override.end())]
    return (dictated + shouts, [override.group()]) if dictated else ([], [override.group(), *shouts])


def _find_dictated(text: str) -> Iterator[str]:
    """Yield the text after each command to write, up to the end of its sentence or quotation."""
    for command in _COMMAND.finditer(text):
        rest = text[command.end() :]
        quotation = _QUOTATION.match(rest)
        order = next(filter(None, quotation.groups())) if quotation else re.split(r"[.!?;|\n]", rest, maxsplit=1)[0]
        if order.strip():
            yield order


def _without_quotations(caption: str) -> str:
    """Return a caption without its quotations if four words or more remain, otherwise the whole caption."""
    rest = _PRINTED.sub(" ", caption)
    return rest if len(re.findall(r"[^\W\d_]{2,}", rest)) >= 4 else caption


def _find_repeated_order(caption: str, orders: list[str]) -> str | None:
    caption_terms, caption_letters = analyze(caption), _letters(caption)
    for order in orders:
        terms = list(tokens(order))
        length = min(2, len(terms)) or 1
        for start in range(len(terms) - length + 1):
            run = terms[start : start + length]
            if _contains(caption_terms, [term for term, _ in run]):
                return " ".join(word for _, word in run)
        if len(_letters(order)) >= _SHORTEST_ORDER and _letters(order) in caption_letters:
            return " ".join(word for _, word in terms) or order
    return None


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def _contains(terms: list[str], run: list[str]) -> bool:
    return any(terms[start : start + len(run)] == run for start in range(len(terms) - len(run) + 1))
