"""Names and texts inside of SQL."""

from collections.abc import Sequence


def quote_name(name: str) -> str:
    """Return the name of a table or column as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return a text as an SQL literal."""
    # The parser of DuckDB takes NUL for the end of the query.
    quoted = "'" + text.replace("'", "''") + "'"
    return "(" + quoted.replace("\0", "' || CHR(0) || '") + ")" if "\0" in text else quoted


def hex_text(text: str) -> str:
    """Return a text as an SQL expression that has only its hexadecimal digits, so that no text can become syntax.

    It stands for a parameter where a process should start quickly: DuckDB imports pandas to bind one, 35 MB and a third
    of a second.
    """
    return f"decode(unhex('{_digits(text)}'))"


def hex_texts(texts: Sequence[str]) -> str:
    """Return texts as an SQL subquery of one column, made as by `hex_text`."""
    digits = ", ".join(f"'{_digits(text)}'" for text in texts)
    return f"(SELECT decode(unhex(unnest([{digits}]::VARCHAR[]))))"


def _digits(text: str) -> str:
    return text.encode().hex()
