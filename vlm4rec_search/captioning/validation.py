"""What is wrong with a caption, if anything: every answer of a model gets a status before a table trusts it."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping

from vlm4rec_search.captioning.base import Context
from vlm4rec_search.common.analyzer import analyze, tokens
from vlm4rec_search.common.patterns import MARKUP, REFUSAL

# Finds captions that follow an instruction hidden in the catalogue's text.

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
_BARE = re.compile(
    r"\b(?:[Ww]rite|[Ss]ay|[Aa]nswer|[Rr]eply|[Oo]utput|[Rr]epeat)[\s:]+(\"[^\"]+\"|[A-Z]{2,}(?:\s+[A-Z]{2,})+)"
)
_SHOUTED = re.compile(r"\b[A-Z]{2,}(?:\s+[A-Z]{2,})+\b")
_SPELT = re.compile(r"(?<![^\W_])(?:[^\W\d_][ ._*-]){3,}[^\W\d_](?![^\W_])")  # B U Y, I.G.N.O.R.E
_ALIKE = str.maketrans("АВЕКМНОРСТХаеіорсухѕ", "ABEKMHOPCTXaeiopcyxs")  # noqa: RUF001  Cyrillic that looks Latin
_LONGEST = 1_000  # characters of a title that are judged; prompts show fewer, and time grows with their square
_SHORTEST = 6  # letters of an order that are looked for without their gaps


def echoed(caption: str, context: Context) -> str | None:
    """Return the words of a caption that repeat an instruction in title or category, or None where none does.

    An instruction is a sentence that overrides the task ("ignore the photo", "you must write", "system: say"), with all
    that it tells to write, or a shout alone ("say BUY NOW"). A caption repeats it when it has two of its index terms in
    a row, its only one, or all its letters. Case, punctuation, white space, invisible signs, wide and Cyrillic letters
    that look Latin, and spelling with gaps make no difference. What merely reads like an instruction may be quoted from
    the product by a caption that says more; a title without one may be repeated freely. English alone is known.
    """
    for text in (context.title, context.category):
        dictated, slogans = _orders(_plain(text[:_LONGEST]))
        if dictated or slogans:
            said = _plain(caption)
            if words := _repeated(said, dictated) or _repeated(_unquoted(said), slogans):
                return words
    return None


def _plain(text: str) -> str:
    """Undo what hides words from a search and not from a reader."""
    if not text.isascii():
        wide = unicodedata.normalize("NFKC", text)
        text = "".join(sign for sign in wide if unicodedata.category(sign) != "Cf").translate(_ALIKE)
    return _SPELT.sub(lambda spelt: re.sub(r"[ ._*-]", "", spelt.group()), text).replace("_", " ")


def _orders(text: str) -> tuple[list[str], list[str]]:
    """Return what a text tells to write, and what in it reads like an instruction but may stand on the product."""
    shouts = [match.group(1) for match in _BARE.finditer(text)]
    override = _OVERRIDE.search(text)
    if override is None:
        return [], shouts
    dictated = list(_dictated(text))
    if not text.isupper():
        dictated += [match.group() for match in _SHOUTED.finditer(text, override.end())]
    return (dictated + shouts, [override.group()]) if dictated else ([], [override.group(), *shouts])


def _dictated(text: str) -> Iterator[str]:
    """Yield what follows each command to write, to the end of its sentence or quotation."""
    for command in _COMMAND.finditer(text):
        rest = text[command.end() :]
        quotation = _QUOTATION.match(rest)
        order = next(filter(None, quotation.groups())) if quotation else re.split(r"[.!?;|\n]", rest, maxsplit=1)[0]
        if order.strip():
            yield order


def _unquoted(caption: str) -> str:
    """Return a caption without what it quotes, if that is a description still, of four words or more."""
    rest = _PRINTED.sub(" ", caption)
    return rest if len(re.findall(r"[^\W\d_]{2,}", rest)) >= 4 else caption


def _repeated(caption: str, orders: list[str]) -> str | None:
    said, letters = analyze(caption), _letters(caption)
    for order in orders:
        terms = list(tokens(order))
        length = min(2, len(terms)) or 1
        for start in range(len(terms) - length + 1):
            run = terms[start : start + length]
            if _contains(said, [term for term, _ in run]):
                return " ".join(word for _, word in run)
        if len(_letters(order)) >= _SHORTEST and _letters(order) in letters:
            return " ".join(word for _, word in terms) or order
    return None


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def _contains(terms: list[str], run: list[str]) -> bool:
    return any(terms[start : start + len(run)] == run for start in range(len(terms) - len(run) + 1))


VERSION = "status-2"
"""Raise it when a rule changes: captions in the cache are judged anew, and a plan sees it."""

LONGEST, LONGEST_FIELD = 2000, 80
PHRASE, TIMES = 12, 4

_REFUSAL, _MARKUP = re.compile(REFUSAL), re.compile(f"{MARKUP}|```")
# Little words that English does not have, and those that tell it; where two languages share one, either name will do.
_LITTLE = {
    "English": "the and with of is for it this that are its has by from which",
    "German": "der und mit ist ein eine das für dem den auf einer einem sich",
    "French": "le et avec est une les dans du pour sur aux ce qui cette",
    "Spanish": "el y con es los las una para por del esta este su al",
    "Italian": "il e è della di che sono nel gli alla questo questa un'",
    "Dutch": "het een van voor zijn deze met op dat wordt ook aan",
    "Portuguese": "o uma com os são não em do da na ao mais pelo",
}
_LANGUAGE = {word: language for language, words in _LITTLE.items() for word in words.split()}


def judge(caption: str, context: Context, fields: Mapping[str, str] | None = None) -> tuple[str, str | None]:
    """Return the status of a caption and the reason, None for ok.

    The status is the first that holds of refused, empty (no word), markup, echo (an instruction in title or category
    was followed), repeated, too_long (`LONGEST` characters) and wrong_language (not English), else ok. The `fields` of
    a structured answer are judged alike, but may lack words, and are too long above `LONGEST_FIELD`: they become
    attributes that customers filter on, so that one bad field spoils the answer.
    """
    if (told := next(_findings(caption, context, LONGEST), None)) is not None:
        return told
    for name, value in (fields or {}).items():
        faults = (fault for fault in _findings(value, context, LONGEST_FIELD) if fault[0] != "empty")
        if (told := next(faults, None)) is not None:
            return told[0], f"{name}: {told[1]}"
    return "ok", None


def _findings(text: str, context: Context, longest: int) -> Iterator[tuple[str, str]]:
    if found := _REFUSAL.search(text):
        yield "refused", f'the captioner declines: "{found.group().strip()}"'
    if not re.search(r"[^\W\d_]{2}", text):
        yield "empty", "the answer has no words"
    if found := _MARKUP.search(text):
        yield "markup", f'the answer holds markup: "{found.group()[:40]}"'
    if words := echoed(text, context):
        yield "echo", f'the answer follows an instruction in the catalogue\'s text: "{words}"'
    if phrase := repeated(text):
        yield "repeated", f'the answer goes round in circles: "{phrase[:80]}"'
    if len(text) > longest:
        yield "too_long", f"the answer has {len(text):,} characters, at most {longest:,} are a description"
    if language := foreign(text):
        yield "wrong_language", f"the answer is {language}, English is searched"


def repeated(caption: str) -> str | None:
    """Return the phrase in which a text goes round in circles, or None.

    That is a phrase of up to `PHRASE` words said `TIMES` times in a row, of one or two words twice as often; or
    fewer than half of the four-word windows of a longer text being different.
    """
    words = re.findall(r"\w+(?:['\u2019-]\w+)*", caption.lower())
    for length in range(1, PHRASE + 1):
        run = 0
        for at in range(length, len(words)):
            run = run + 1 if words[at] == words[at - length] else 0
            if run >= length * ((TIMES if length > 2 else 2 * TIMES) - 1):
                return " ".join(words[at - length + 1 : at + 1])
    windows = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    if windows.total() >= 24 and len(windows) < windows.total() / 2:
        return " ".join(windows.most_common(1)[0][0])
    return None


def foreign(caption: str) -> str | None:
    """Say in which language a text is when that is clearly not English, else None.

    Judged by script, and by little words: at least three of one other language, and more than of English. Short
    phrases without little words pass.
    """
    letters = [letter for letter in caption if letter.isalpha()]
    other = sum(ord(letter) > 0x24F for letter in letters)
    if letters and other > len(letters) / 3:
        return "in another script"
    counts = Counter(_LANGUAGE[word] for word in re.findall(r"[^\W\d_]+'?", caption.lower()) if word in _LANGUAGE)
    english = counts.pop("English", 0)
    language, most = max(counts.items(), key=lambda pair: pair[1], default=("", 0))
    return language if most >= 3 and most > english else None
