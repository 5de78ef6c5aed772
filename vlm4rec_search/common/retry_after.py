"""The pause that a busy server asks for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After, a number or a date (RFC 9110, 10.2.3), or None without a valid one.

    A pause of 0 or a date that has passed is None too: a busy server that gets its requests again at once stays busy.

    Args:
        headers: of a response; their names are in lower case, or their case does not matter.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # a date without a time zone cannot be compared
            return None
    return seconds if seconds > 0.0 else None
