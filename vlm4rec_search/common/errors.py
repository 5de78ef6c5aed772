"""The two ways in which a command can end badly, each told in one clear line."""


class Vlm4recError(Exception):
    """A mistake or failure whose message says what is wrong and what to do."""

    exit_code = 1


class UsageError(Vlm4recError):
    """Wrong usage: the caller has to change the call, the settings or the input (exit code 2)."""

    exit_code = 2


class RunError(Vlm4recError):
    """A run or a check failed though it was asked for rightly (exit code 1)."""
