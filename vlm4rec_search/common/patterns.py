"""What counts as markup in a text: one pattern for staging, which refuses it, and for the suites, which look again."""


# Sentences in which a vision-language model declines: one pattern for the captions' status and for the suites.

_APOSTROPHE = "['\u2019]"

REFUSAL = (
    rf"(?i)(?:^|[.!?:]\s+)\W*(?:i(?:{_APOSTROPHE}m| am) (?:very )?(?:sorry|unable|not able|afraid)"
    rf"|i (?:cannot|can ?not|can{_APOSTROPHE}t|won{_APOSTROPHE}t|do not see|don{_APOSTROPHE}t see)\b"
    r"|(?:sorry|unfortunately|my apologies),)"
    r"|\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bno (?:image|photo|picture) (?:was|is|has been) (?:provided|attached|uploaded|given)"
    r"|\bplease (?:provide|upload|attach|share) (?:an?|the|your) (?:image|photo|picture)"
)
"""Regular expression (RE2). Declining counts at the start of a sentence, so that a shirt that reads "I can't even"
passes; "as an AI" and a missing image count anywhere."""


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
"""Regular expression (RE2): HTML tags (escaped ones too), comments, JavaScript and style sheets. "< 5 kg", "<3" and
"multi-function (10 in 1)" are text."""
