"""Rules of the staging layer that more than one model applies."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro


@macro()
def plain_text(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the text with white space collapsed and trimmed; NULL when nothing is left."""
    return f"NULLIF(TRIM(REGEXP_REPLACE({text}, '\\s+', ' ', 'g')), '')"


@macro()
def decoded(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the text with the common HTML entities as the characters that they stand for."""
    entities = {"lt": "<", "gt": ">", "quot": '"', "#39": "''", "nbsp": " ", "reg": "®", "trade": "™", "amp": "&"}
    for entity, character in entities.items():
        text = f"REPLACE({text}, '&{entity};', '{character}')"
    return text


@macro()
def without_tags(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the text without HTML tags and without the content of script and style elements."""
    scripts = f"REGEXP_REPLACE({text}, '<(script|style)[^>]*>.*?</(script|style)>', ' ', 'gis')"
    return f"REGEXP_REPLACE({scripts}, '</?[a-z!][^>]*>', ' ', 'gi')"


@macro()
def parse_time(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the text as a UTC timestamp: ISO 8601 with or without a zone, or an epoch; else NULL.

    An epoch has 9 or 10 digits in seconds, 13 in milliseconds, 16 in microseconds; a fraction is allowed, since a
    column of numbers with a gap is written so. A cast to TIMESTAMP alone would drop an offset without a word; a cast to
    TIMESTAMPTZ alone would read a text without a zone in the machine's own.
    """
    epochs = "".join(
        f"WHEN REGEXP_FULL_MATCH({text}, '\\d{{{digits}}}(\\.\\d*)?') "
        f"THEN MAKE_TIMESTAMP(CAST(ROUND(CAST({text} AS DOUBLE) * {factor}) AS BIGINT)) "
        for digits, factor in (("9,10", 1_000_000), ("13", 1_000), ("16", 1))
    )
    return f"""CASE {epochs}
      WHEN REGEXP_MATCHES({text}, ':\\d\\d.*([A-Za-z]|[+-]\\d\\d)')
        THEN MAKE_TIMESTAMP(EPOCH_US(TRY_CAST({text} AS TIMESTAMPTZ)))
      ELSE TRY_CAST({text} AS TIMESTAMP)
    END"""
