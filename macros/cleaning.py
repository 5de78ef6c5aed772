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
    """Return the text as a UTC timestamp: ISO 8601 with or without a zone, epoch seconds or milliseconds; else NULL.

    A cast to TIMESTAMP alone would drop an offset without a word; a cast to TIMESTAMPTZ alone would read a text without
    a zone in the machine's own.
    """
    return f"""CASE
      WHEN REGEXP_FULL_MATCH({text}, '\\d{{10}}') THEN MAKE_TIMESTAMP(CAST({text} AS BIGINT) * 1000000)
      WHEN REGEXP_FULL_MATCH({text}, '\\d{{13}}') THEN MAKE_TIMESTAMP(CAST({text} AS BIGINT) * 1000)
      WHEN REGEXP_MATCHES({text}, ':\\d\\d.*([A-Za-z]|[+-]\\d\\d)')
        THEN MAKE_TIMESTAMP(EPOCH_US(TRY_CAST({text} AS TIMESTAMPTZ)))
      ELSE TRY_CAST({text} AS TIMESTAMP)
    END"""
