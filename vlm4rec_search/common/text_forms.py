"""One form for texts that look alike, from many keyboards and file systems, and the words that stand for nothing."""

import re
import unicodedata

MARKERS = (
    r"\N", "NULL", "null", "(null)", "nan", "NaN", "NAN", "<NA>", "#N/A", "#NV", "#REF!", "#VALUE!", "#NAME?",
    "#DIV/0!", "[null]", "NaT", "undefined", "(not set)",
)  # fmt: skip
"""What programs write for nothing, as in `macros/cleaning.py`: of several columns another one is taken."""
WORDS = ("None", "N/A", "n/a", "N.A.", "n.a.", "-", "--")
"""What people write for nothing outside of attributes, as in `macros/cleaning.py`."""
_LONGEST = 200  # characters of a value that is shown
_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*")
_SPACES = re.compile(r"[\t\n\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}  # full-width forms of the signs from ! to ~


def normal_form(text: str) -> str:
    """Return an id in the form that staging gives it (the macro `@normal_form`).

    NFC, full-width letters as plain ones, nothing invisible, one space for any space, none around the text; `="00123"`
    is 00123.
    """
    if text.startswith('="') and text.endswith('"') and len(text) > 3:
        text = text[2:-1]
    if _PLAIN.fullmatch(text):
        return text
    visible = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    return _SPACES.sub(" ", unicodedata.normalize("NFC", visible).translate(_NARROW)).strip(" ")


def composed(text: str) -> str:
    """Return a text in NFC, the form in which the tables have theirs."""
    return unicodedata.normalize("NFC", text)


def spellings(name: str) -> tuple[str, ...]:
    """Return the names under which a file system may have a file: as written, in NFC, and in NFD (as on macOS)."""
    return tuple(dict.fromkeys((name, composed(name), unicodedata.normalize("NFD", name))))


def shorten(text: str) -> str:
    """Return a text as a report or a table shows it: of a long one the beginning, with an ellipsis."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
