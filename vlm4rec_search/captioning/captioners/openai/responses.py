"""The responses of an OpenAI-compatible server: chat completions, and the meaning of errors.

Servers differ in the details beside the text (token counts, finish reasons, message parts). A malformed detail becomes
None, so that no usable text is lost.
"""

import re
from typing import Annotated

import httpx
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from vlm4rec_search.captioning.answers import replace_half_characters
from vlm4rec_search.captioning.base import CaptionError
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.retry_after import retry_after

PATIENCE = 600.0
"""The longest Retry-After that is accepted, and the longest time for the attempts of one request, in seconds."""

ATTEMPTS = 6
"""The most failed attempts of one request."""

_TRANSIENT = {408, 409, 425, 429}
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
_CREDENTIALS = ("key", "token", "credential", "unauthorized", "authentication")
_POLICY = ("content_policy", "content_filter", "moderation", "flagged", "safety")
_STATUSES = {
    "rate_limit": 429,
    "api_key": 401,
    "authentication": 401,
    "model_not_found": 404,
    "context_length": 400,
    "invalid_request": 400,
    **dict.fromkeys(_POLICY, 400),
}
"""The status that a part of an error's code or type stands for; the first that is found counts."""


def _none_if_invalid(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return None


NoneIfInvalid = WrapValidator(_none_if_invalid)
Text = Annotated[str | None, NoneIfInvalid]
_MOST_TOKENS = 10**9
"""The most tokens of a request that are believed: more is a defect of the server, and would not fit into the tables."""
Count = Annotated[Annotated[int, Field(ge=0, le=_MOST_TOKENS)] | None, NoneIfInvalid]


class Part(BaseModel):
    """A part of a message's content; `text` is None for a part of another kind."""

    text: Text = None


class Message(BaseModel):
    """The text of an answer, or the reason for a refusal."""

    content: Annotated[str | Part | list[Annotated[str | Part | None, NoneIfInvalid]] | None, NoneIfInvalid] = None
    refusal: Text = None

    @property
    def text(self) -> str:
        """The text of all parts, "" for none."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "".join((part.text if isinstance(part, Part) else part) or "" for part in parts)


class Choice(BaseModel):
    """One answer and the reason why it ended."""

    message: Message
    finish_reason: Text = None


class Usage(BaseModel):
    """The token counts of a request; None where the server reports none."""

    prompt_tokens: Count = None
    completion_tokens: Count = None


def _first(choices: object) -> object:
    return choices[:1] if isinstance(choices, list) else choices


class Completion(BaseModel):
    """The fields of a chat completion that captions need; only the first choice is read."""

    choices: Annotated[list[Choice], BeforeValidator(_first), Field(min_length=1)]
    usage: Annotated[Usage | None, NoneIfInvalid] = None


class TransientError(Exception):
    """A failure that may pass: no answer in time, a server error, or an answer that was lost in transit.

    Attributes:
        billed: whether the server had begun to answer, or had finished, and so will charge for the answer.
    """

    def __init__(self, reason: str, billed: bool = False) -> None:
        super().__init__(reason)
        self.billed = billed


class UnreachableError(TransientError):
    """No connection to the server."""


class BusyError(TransientError):
    """The server asks for a pause of `seconds`; None where it names no time."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.seconds = seconds


def parse_completion(response: httpx.Response, server: str, key: str | None) -> Completion:
    """Return the completion in a response.

    Some gateways send an error with the status 200: its code or type counts in the place of the status.

    Args:
        response: the response.
        server, key: as in `classify_error`.

    Raises:
        TransientError: the body is not a chat completion.
        Exception: the error of `classify_error`, where the response is one.
    """
    if is_error(response):
        raise classify_error(response, server, key)
    try:
        return _read_completion(response)
    except ValidationError as error:
        reason = f"the answer is not a chat completion: {error.errors()[0]['msg']}"
        raise TransientError(reason, billed=True) from None


def is_error(response: httpx.Response) -> bool:
    """Return whether a response is an error: by its status, or by an error in its body without a finished text."""
    if response.status_code != 200 or _read_error(response) is None:
        return response.status_code != 200
    try:
        choice = _read_completion(response).choices[0]
    except ValidationError:
        return True
    return not choice.message.text.strip() or choice.finish_reason == "error"


def _read_completion(response: httpx.Response) -> Completion:
    return Completion.model_validate_json(_text_of(response))


def _text_of(response: httpx.Response) -> str:
    return replace_half_characters(response.content.decode("utf-8", "replace"))


def classify_error(response: httpx.Response, server: str, key: str | None) -> Exception:
    """Return the error that a response stands for, by its status, or by the code in the body of one with status 200.

    Args:
        response: the response.
        server: the name of the server in messages.
        key: the API key, which is removed from messages.

    Returns:
        BusyError or TransientError when a retry may help; CaptionError when this photo alone is rejected; UsageError or
        RunError when every photo would fail.
    """
    reason, status = f"{response.status_code}: {error_message(response, key)}", response.status_code
    if status == 200:
        status = _as_status(_read_error(response))
    if any(word in reason for word in _QUOTA):
        return RunError(f"{server} has no quota left ({reason}): earlier captions are kept")
    if status in (400, 403) and any(word in reason for word in _POLICY):
        return CaptionError("refused", reason)
    if status == 403 and not any(word in reason.lower() for word in _CREDENTIALS):
        return UsageError(
            f"{server} refuses the request ({reason}): the key may lack the right for this model, or a proxy or"
            " firewall in front of the server may block it"
        )
    if status in (401, 403):
        return UsageError(f"{server} refuses the key ({reason}): set VLM4REC_OPENAI_KEY or VLM4REC_OPENAI_KEY_FILE")
    if status == 404 or response.is_redirect:
        return UsageError(
            f"{server} has no such address or model ({reason}): check the model's name; VLM4REC_OPENAI_URL usually ends"
            " in /v1"
        )
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        return BusyError(reason, retry_after(response.headers))
    if status in _TRANSIENT or status >= 500:
        return TransientError(reason)
    return CaptionError("failed", reason)


class _ErrorFields(BaseModel):
    message: Text = None
    code: Annotated[str | int | None, NoneIfInvalid] = None
    type: Text = None


class _ErrorBody(_ErrorFields):
    """A body with an `error`, or one that is the error itself, as older versions of vLLM send it."""

    error: Annotated[_ErrorFields | str | None, NoneIfInvalid] = None
    object: Text = None


def _read_error(response: httpx.Response) -> _ErrorFields | None:
    """Return the error in the body of a response, None without one."""
    try:
        body = _ErrorBody.model_validate_json(_text_of(response))
    except ValidationError:
        return None
    error = _ErrorFields(message=body.error) if isinstance(body.error, str) else body.error
    if error is None and body.object == "error":
        return body
    return error if error and (error.message or error.code or error.type) else None


def _as_status(error: _ErrorFields | None) -> int:
    """Return the code or the type of an error as a status of HTTP, 500 for one that is not known."""
    code, kind = (str(error.code or ""), error.type or "") if error else ("", "")
    if re.fullmatch("[45][0-9]{2}", code):
        return int(code)
    return next((status for name, status in _STATUSES.items() if name in f"{code} {kind}"), 500)


def error_message(response: httpx.Response, key: str | None) -> str:
    """Return the server's error message as one line of at most 200 characters, with the key masked."""
    error = _read_error(response)
    text = f"{error.message or ''} {error.code or ''}" if error else ""
    line = " ".join((text.strip() or response.text).split()) or response.reason_phrase
    return (line.replace(key, "***") if key else line)[:200]
