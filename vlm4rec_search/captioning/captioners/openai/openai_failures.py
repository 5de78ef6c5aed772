"""What an answer other than a caption means: wait, try again, give up on the photo, or on the run."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from pydantic import BaseModel, ValidationError

from vlm4rec_search.captioning.base import CaptionError
from vlm4rec_search.common.errors import RunError, UsageError

PATIENCE = 600.0
"""Seconds that are waited at most: for one Retry-After, and for one item from its first attempt."""
_TRANSIENT = {408, 409, 425, 429}
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
_POLICY = ("content_policy", "content_filter", "moderation", "flagged", "safety")


class TransientError(Exception):
    """A failure that may pass: no answer in time, a server's error, an answer cut off on its way.

    `broken`: the server was at the answer, or through with it, and will want its money.
    """

    def __init__(self, reason: str, broken: bool = False) -> None:
        super().__init__(reason)
        self.broken = broken


class UnreachableError(TransientError):
    """No connection."""


class BusyError(TransientError):
    """The server asks to come again later, in `seconds` where it says when."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.seconds = seconds


def failure(response: httpx.Response, server: str, key: str | None) -> Exception:
    """Return what an answer other than 200 means; messages name the server as `server`, and never hold the key.

    Returns:
        BusyError or TransientError: trying again may help. CaptionError: this photo is refused, others are not.
        UsageError or RunError: no photo would be captioned.
    """
    reason, status = f"{response.status_code}: {message(response, key)}", response.status_code
    if any(word in reason for word in _QUOTA):
        return RunError(f"{server} has no quota left ({reason}): what was done so far is kept")
    if status in (400, 403) and any(word in reason for word in _POLICY):
        return CaptionError("refused", reason)
    if status in (401, 403):
        return UsageError(f"{server} refuses the key ({reason}): set VLM4REC_OPENAI_KEY or VLM4REC_OPENAI_KEY_FILE")
    if status == 404 or response.is_redirect:
        return UsageError(f"{server} knows no such address or model ({reason}): VLM4REC_OPENAI_URL mostly ends in /v1")
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        return _busy(reason, _retry_after(response), server)
    if status in _TRANSIENT or status >= 500:
        return TransientError(reason)
    return CaptionError("failed", reason)


def _busy(reason: str, seconds: float | None, server: str) -> Exception:
    if seconds is not None and seconds > PATIENCE:
        return RunError(f"{server} asks to come again in {seconds:.0f} s ({reason}): what was done so far is kept")
    return BusyError(reason, seconds)


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of Retry-After (RFC 9110, 10.2.3: a number or a date), None where there are none."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # a date without a time zone cannot be compared
        return None


class _Error(BaseModel):
    message: str = ""
    code: str | int | None = None


class _Body(BaseModel):
    error: _Error | str = ""


def message(response: httpx.Response, key: str | None) -> str:
    """Return what the server says, as one line of at most 200 characters; servers like to repeat the key."""
    try:
        error = _Body.model_validate_json(response.content).error
    except ValidationError:
        error = ""
    said = f"{error.message} {error.code or ''}" if isinstance(error, _Error) else error
    line = " ".join((said.strip() or response.text).split()) or response.reason_phrase
    return (line.replace(key, "***") if key else line)[:200]
