"""What is wrong with a caption, if anything: every answer of a model gets a status before a table trusts it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from vlm4rec_search.captioning.echo import echoed
from vlm4rec_search.captioning.registry import Context
from vlm4rec_search.common.patterns import MARKUP
from vlm4rec_search.common.refusals import REFUSAL

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
