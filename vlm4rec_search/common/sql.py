"""Names and texts inside of SQL."""


def quote_name(name: str) -> str:
    """Return the name of a table or column as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return a text as an SQL literal."""
    # The parser of DuckDB takes NUL for the end of the query.
    quoted = "'" + text.replace("'", "''") + "'"
    return "(" + quoted.replace("\0", "' || CHR(0) || '") + ")" if "\0" in text else quoted
