"""Finds captions that follow an instruction hidden in the catalogue's text."""

import re
import unicodedata
from collections.abc import Iterator

from vlm4rec_search.captioning.base import Context
from vlm4rec_search.common.analyzer import analyze, tokens

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
