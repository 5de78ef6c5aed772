"""Sentences in which a vision-language model declines: one pattern for the captions' status and for the suites."""

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
