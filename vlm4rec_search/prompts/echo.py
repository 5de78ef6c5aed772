"""Finds captions that follow an instruction hidden in the catalogue's text."""

import re
from collections.abc import Iterator

from vlm4rec_search.analysis import analyze, tokens
from vlm4rec_search.captioners.base import Context

_OVERRIDE = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\s+(?:about\s+)?(?:the|this|that|all|any|your|every|previous|prior)\b"
    r"(?:\s+\w+){0,3}?\s+(?:photo|image|picture|prompt|instructions?|rules?|text|above)\b"
    r"|\b(?:ignore|disregard|forget)\s+everything\b|\b(?:system|assistant)\s*:|\byou\s+(?:must|have\s+to|are\s+now)\b",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"\b(?:write|say|print|output|reply|respond|answer|repeat|return|state|claim|mention|call\s+it|describe\s+it\s+as)\b"
    r"(?:\s+(?:with|that|only|just|exactly|(?:the\s+)?(?:words?|text|phrase|sentence)))*[\s:]*",
    re.IGNORECASE,
)
_QUOTATION = re.compile(r"\s*[\"'\u201c\u2018«](.+?)[\"'\u201d\u2019»]")
_BARE = re.compile(
    r"\b(?:[Ww]rite|[Ss]ay|[Aa]nswer|[Rr]eply|[Oo]utput|[Rr]epeat)[\s:]+(\"[^\"]+\"|[A-Z]{2,}(?:\s+[A-Z]{2,})+)"
)


def echoed(caption: str, context: Context) -> str | None:
    """Return the words of a caption that repeat an instruction in title or category, or None where none does.

    An instruction is a sentence that overrides the task ("ignore the photo", "you must", "system:"), or one that
    tells what to write, in quotes or capitals. A caption repeats it when it has two of its index terms in a row, or
    its only one. English alone is known; a title without an instruction may be repeated freely.
    """
    said = analyze(caption)
    for order in (*_orders(context.title), *_orders(context.category)):
        terms = list(tokens(order))
        length = min(2, len(terms)) or 1
        for start in range(len(terms) - length + 1):
            run = terms[start : start + length]
            if _contains(said, [term for term, _ in run]):
                return " ".join(word for _, word in run)
    return None


def _orders(text: str) -> Iterator[str]:
    """Yield what instructions in a text want to be said, and the instructions themselves."""
    yield from (match.group(1) for match in _BARE.finditer(text))
    override = _OVERRIDE.search(text)
    if override is None:
        return
    yield override.group()
    commands = list(_COMMAND.finditer(text)) or [override]
    for command in commands:
        rest = text[command.end() :]
        quotation = _QUOTATION.match(rest)
        yield quotation.group(1) if quotation else re.split(r"[.!?;|\n]", rest, maxsplit=1)[0]


def _contains(terms: list[str], run: list[str]) -> bool:
    return any(terms[start : start + len(run)] == run for start in range(len(terms) - len(run) + 1))
