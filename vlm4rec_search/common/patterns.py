"""Regular expressions (RE2) for markup in texts, for broken letters, and for captions in which a model declines.

The staging models and the validation of captions apply them, and the expectation suites check with the same patterns.
"""

_APOSTROPHE = "['\u2019]"

REFUSAL = (
    rf"(?i)(?:^|[.!?:]\s+)\W*(?:i(?:{_APOSTROPHE}m| am) (?:very )?(?:sorry|unable|not able|afraid)"
    rf"|i (?:cannot|can ?not|can{_APOSTROPHE}t|won{_APOSTROPHE}t|do not see|don{_APOSTROPHE}t see)\b"
    r"|(?:sorry|unfortunately|my apologies),)"
    r"|\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bno (?:image|photo|picture) (?:was|is|has been) (?:provided|attached|uploaded|given)"
    r"|\bplease (?:provide|upload|attach|share) (?:an?|the|your) (?:image|photo|picture)"
)
"""Sentences in which a vision-language model declines. "I can't ..." counts only at the start of a sentence, so that a
shirt that reads "I can't even" passes; "as an AI ..." and "no image was provided" count anywhere."""

_TAGS = (
    "a|b|i|u|p|br|hr|em|li|ul|ol|td|th|tr|div|img|svg|pre|sup|sub|font|form|body|head|html|link|meta|span|strong"
    "|table|tbody|thead|input|button|center|section|h[1-6]"
)

MARKUP = (
    "(?i)"
    r"(?:<|&lt;)(?:!--|!doctype|/?(?:script|style|iframe)\b"
    rf"|/?(?:{_TAGS})(?:\s[^<>]*)?/?\s*(?:>|&gt;))"
    r"|\bfunction(?:\s+[\w$]+)?\(|\bfunction(?:\s+[\w$]+)?\s*\([^)]*\)\s*\{"
    r"|\b(?:var|let|const)\s+[\w$]+\s*="
    r"|\b(?:document|window)\.\w+\s*[(=.\[]"
    r"|\bjavascript:"
    r"|\{[^{}]*;[^{}]*\}"
)
"""HTML tags (escaped or not), HTML comments, JavaScript and style sheets. "< 5 kg", "<3" and "multi-function (10 in 1)"
are text."""

MENDABLE = (
    "\u00c3[\\x{80}-\\x{BF}\u0192\u201e\u201a\u0178\u0160\u0152\u0153\u0161\u017e\u017d\u2013"
    "\u20ac\u2030\u2021\u2020\u02c6\u2039\u2018\u2022\u02dc\u2122\u203a]"
    "|\u00c2[\\x{A0}-\\x{BF}]|\u00e2\u20ac"
    # Polish and Czech; with a sign that may follow a word, such as a trade mark, only inside of a word
    "|\u00c5[\u201a\u201e\u02c6\u02dc\u00bc\u00bd\u00be\u00a1\u00a5\u00af]"
    "|\u00c5[\u2122\u203a\u00ba]\\p{L}|\u00c4[\u2026\u2122\u203a\u2021\u2020\u0152]\\p{L}"
)
"""UTF-8 that was read as Windows-1252, such as CafÃ© for Café, and quotation marks."""

BROKEN_TEXT = (
    MENDABLE + "|\u0139[\u201a\u201e\u203a\u02c7\u013d\u013e\u017a\u017c\u2122\u02d8\u0105]"
    "|\u0102[\u0142\u013d\u00a9\u00ad\u02c7]"
    r"|[\x{80}-\x{84}\x{86}-\x{9F}]"
)
"""The same; UTF-8 that was read as Windows-1250, such as Ăł for ó; Windows-1252 that was read as Latin-1."""

MOJIBAKE = rf"{BROKEN_TEXT}|ï¿½|\x{{FFFD}}"
"""The same, and letters that are lost for good."""
