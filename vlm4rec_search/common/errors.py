"""Exceptions whose message is one clear line, and how to get such a line from the exceptions of other libraries."""


class Vlm4recError(Exception):
    """A mistake or failure whose message says what is wrong and what to do."""

    exit_code = 1


class UsageError(Vlm4recError):
    """The caller has to change the call, the settings or the input (exit code 2)."""

    exit_code = 2


class RunError(Vlm4recError):
    """A run or a check failed although it was called correctly (exit code 1)."""


def one_line(error: object) -> str:
    """Return a text or the message of an exception with white space collapsed; the type's name if it is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: object) -> str:
    """Return the first line of an exception's message: DuckDB writes hints and the SQL below it."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0]) if lines else type(error).__name__
