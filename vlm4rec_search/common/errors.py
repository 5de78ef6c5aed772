"""The exceptions of the package, part of its public API.

    Vlm4recError
    ├── UsageError    exit code 2: the call, a setting or an input file has to change
    └── RunError      exit code 1: a run failed, or a check found a fault

Each message is one line that says what is wrong and what to do. A program can catch `Vlm4recError`. A `vlm4rec` command
prints the message to stderr and ends with `exit_code`.
"""


class Vlm4recError(Exception):
    """The base class: an error with a message for the user, in one line."""

    exit_code = 1
    """Exit code of a command that ends with this error."""


class UsageError(Vlm4recError):
    """The caller has to change the call, a setting or an input file (exit code 2)."""

    exit_code = 2


class RunError(Vlm4recError):
    """A run failed or a check found a fault, although the call and its settings are valid (exit code 1)."""


def missing_extra(error: ImportError, extra: str) -> UsageError:
    """Return the error that names the package that is missing, and the command that installs its extra."""
    return UsageError(f"the package {error.name} is not installed: pip install 'vlm4rec-search[{extra}]'")


def one_line(error: object) -> str:
    """Return a text or the message of an exception with white space collapsed; the type's name if it is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """Return the error behind all others that says something: SQLMesh wraps those of models and files."""
    while (further := error.__cause__ or error.__context__) and str(further):
        error = further
    return error


def first_line(error: object) -> str:
    """Return the first line of an exception's message: DuckDB writes hints and the SQL below it."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0]) if lines else type(error).__name__
