"""Chat completions of an OpenAI-compatible server, from many threads: limits kept, failures tried again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated

import httpx
import tenacity
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from vlm4rec_search.captioning.base import CaptionError
from vlm4rec_search.captioning.captioners.openai.rate_limit import Gate
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.http import DeadlineTransport, deadline
from vlm4rec_search.common.settings import Settings, secret

# Chat completions as servers really send them: no usable text is lost for something odd beside it.


def _or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return None


OrNone = WrapValidator(_or_none)
Text = Annotated[str | None, OrNone]
Count = Annotated[Annotated[int, Field(ge=0)] | None, OrNone]


class Part(BaseModel):
    """A part of a message's content; one that is no text has none."""

    text: Text = None


class Message(BaseModel):
    """The answer: words, or why there are none."""

    content: Annotated[str | Part | list[Annotated[str | Part | None, OrNone]] | None, OrNone] = None
    refusal: Text = None

    @property
    def text(self) -> str:
        """The words, "" for none."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "".join((part.text if isinstance(part, Part) else part) or "" for part in parts)


class Choice(BaseModel):
    """One answer, and why it ended."""

    message: Message
    finish_reason: Text = None


class Usage(BaseModel):
    """Tokens that were counted; None where the server does not tell."""

    prompt_tokens: Count = None
    completion_tokens: Count = None


def _first(choices: object) -> object:
    return choices[:1] if isinstance(choices, list) else choices


class Completion(BaseModel):
    """A chat completion, as far as captions need it."""

    choices: Annotated[list[Choice], BeforeValidator(_first), Field(min_length=1)]
    usage: Annotated[Usage | None, OrNone] = None


@dataclass(frozen=True)
class Answered:
    """A completion and what it took.

    `seconds` is the time of the call that succeeded; `broken` counts the calls before it whose answer was lost on its
    way, which a server takes money for.
    """

    completion: Completion
    seconds: float
    broken: int

    @property
    def counted(self) -> bool:
        """Whether the server tells all of its tokens."""
        usage = self.completion.usage or Usage()
        return bool(usage.prompt_tokens) and usage.completion_tokens is not None

    def paid(self, sent: int, answered: int) -> tuple[int, int]:
        """Return tokens in and out of all calls; a lost answer has taken `sent` and `answered`.

        Where the server does not tell they are `sent`, and four letters of the text each.
        """
        usage = self.completion.usage or Usage()
        got = len(self.completion.choices[0].message.text) // 4
        got = got if usage.completion_tokens is None else usage.completion_tokens
        return (usage.prompt_tokens or sent) + self.broken * sent, got + self.broken * answered


# What an answer other than a caption means: wait, try again, give up on the photo, or on the run.

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


ATTEMPTS = 6
_JITTER = tenacity.wait_random(0, 1)
_BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=20)


class ChatClient:
    """One server, its key and its limits; `sleep` waits between the attempts of a request, in seconds.

    Raises:
        UsageError: the address or the key cannot be used.
    """

    def __init__(self, options: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        url = _checked(options.openai_url)
        self._server = f"{url.scheme}://{url.netloc.decode()}"
        self._key = secret("VLM4REC_OPENAI_KEY", options.openai_key, options.openai_key_file)
        self._timeout = options.openai_timeout
        self._gate, self._sleep = Gate(options.openai_rpm, options.openai_tpm), sleep
        timeout = httpx.Timeout(self._timeout, connect=min(10.0, self._timeout), pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=options.openai_workers)
        headers = {"authorization": f"Bearer {self._key}"} if self._key else None
        transport = DeadlineTransport(limits, trust_env=True)
        self._http = httpx.Client(transport=transport, base_url=url, headers=headers, timeout=timeout)

    def complete(self, body: Mapping[str, object], sent: int, answered: int) -> Answered:
        """Return the completion; `sent` and `answered` are the tokens that it may cost, until its answer tells.

        Raises:
            CaptionError: this request is refused, or fails however often it is tried; its tokens are those of answers
                that were lost on their way, each taken to be as long as allowed.
            UsageError, RunError: every request would fail.
        """
        again = tenacity.retry_if_exception_type(TransientError)
        stop = _Stop()
        retrying = tenacity.Retrying(stop=stop, wait=_wait, retry=again, sleep=self._sleep, reraise=True)
        try:
            completion, seconds = retrying(self._attempt, body, sent + answered, stop)
        except UnreachableError as error:
            raise RunError(f"{self._server} cannot be reached ({error}): what was done so far is kept") from None
        except TransientError as error:
            reason, lost = f"tried {retrying.statistics['attempt_number']} times: {error}", stop.broken
            raise CaptionError("failed", reason, "", lost * sent, lost * answered) from None
        except CaptionError as error:
            error.tokens_in, error.tokens_out = stop.broken * sent, stop.broken * answered
            raise
        return Answered(completion, seconds, stop.broken)

    def _attempt(self, body: Mapping[str, object], tokens: int, stop: "_Stop") -> tuple[Completion, float]:
        waiting = time.monotonic()
        self._gate.enter(tokens)
        start = time.monotonic()
        stop.queued += start - waiting
        completion = self._completion(self._post(body))
        usage = completion.usage
        if usage and usage.prompt_tokens:
            self._gate.correct(tokens - usage.prompt_tokens - (usage.completion_tokens or 0))
        return completion, time.monotonic() - start

    def _post(self, body: Mapping[str, object]) -> httpx.Response:
        begun = False
        try:
            with deadline(self._timeout), self._http.stream("POST", "chat/completions", json=body) as response:
                begun = response.status_code == 200
                response.read()
                return response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise UnreachableError(str(error) or "no connection in time") from None
        except httpx.TimeoutException as error:
            late = isinstance(error, httpx.ReadTimeout)
            raise TransientError(f"no answer in {self._timeout:g} s", broken=late) from None
        except httpx.RequestError as error:
            raise TransientError(f"the connection broke ({error or type(error).__name__})", broken=begun) from None

    def _completion(self, response: httpx.Response) -> Completion:
        if response.status_code != 200:
            error = failure(response, self._server, self._key)
            if isinstance(error, BusyError) and error.seconds:
                self._gate.pause.extend(error.seconds)
            raise error
        try:
            return Completion.model_validate_json(response.content)
        except ValidationError as error:
            reason = f"the answer is no chat completion: {error.errors()[0]['msg']}"
            raise TransientError(reason, broken=True) from None


class _Stop(tenacity.stop.stop_base):
    """Ends the attempts of one request: after six failures (to be busy is none), or when it has lasted too long.

    `broken` counts the answers that were lost on their way, `queued` the seconds of waiting for our own limits, which
    are not the server's fault.
    """

    def __init__(self) -> None:
        self._failures = self.broken = 0
        self.queued = 0.0

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = _error(retry_state)
        self._failures += not isinstance(error, BusyError)
        self.broken += isinstance(error, TransientError) and error.broken
        lasted = (retry_state.seconds_since_start or 0.0) - self.queued
        return self._failures >= ATTEMPTS or lasted > PATIENCE


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds until the next attempt, drawn at random: soon after a Retry-After, else doubled."""
    error = _error(state)
    if isinstance(error, BusyError) and error.seconds is not None:
        return error.seconds + _JITTER(state)
    return _BACKOFF(state)


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _checked(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise UsageError(f"VLM4REC_OPENAI_URL is no address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("VLM4REC_OPENAI_URL has to look like http://localhost:8000/v1")
    if url.userinfo:
        raise UsageError("VLM4REC_OPENAI_URL holds a password: put the key into VLM4REC_OPENAI_KEY instead")
    return url
