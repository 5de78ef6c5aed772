"""What counts as markup in a text: one pattern for staging, which refuses it, and for the suites, which look again."""

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
