"""Functions of the staging models for times."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro


@macro()
def parse_time(evaluator: MacroEvaluator, text: SQL) -> str:
    """Return the text as a UTC timestamp, from ISO 8601 with or without a zone or from an epoch; else NULL.

    An epoch has 9 or 10 digits in seconds, 13 in milliseconds, 16 in microseconds. It may have a fraction, because a
    column of numbers with missing values is often written as floats. A cast to TIMESTAMP alone would silently drop an
    offset; a cast to TIMESTAMPTZ alone would read a text without a zone in the local time zone.
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
