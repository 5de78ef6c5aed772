"""Chat completions of an OpenAI-compatible server, from many threads: limits kept, failures tried again."""

import time
from collections.abc import Callable, Mapping

import httpx
import tenacity
from pydantic import BaseModel, Field, ValidationError

from vlm4rec_search.captioners.base import CaptionError
from vlm4rec_search.captioners.limits import Pause, TokenBucket
from vlm4rec_search.captioners.openai_failures import (
    PATIENCE,
    BusyError,
    TransientError,
    UnreachableError,
    failure,
)
from vlm4rec_search.errors import RunError, UsageError
from vlm4rec_search.settings import Settings, secret

ATTEMPTS = 6
_JITTER = tenacity.wait_random(0, 1)
_BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=20)


class Part(BaseModel):
    """A part of a message's content."""

    text: str = ""


class Message(BaseModel):
    """The answer: words, or why there are none."""

    content: str | list[Part] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """The words, "" for none."""
        return "".join(part.text for part in self.content) if isinstance(self.content, list) else self.content or ""


class Choice(BaseModel):
    """One answer, and why it ended."""

    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens that were counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(BaseModel):
    """A chat completion, as far as captions need it; `seconds` is the time of the call that succeeded."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None
    seconds: float = 0.0


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
        self._requests = TokenBucket(options.openai_rpm) if options.openai_rpm else None
        self._tokens = TokenBucket(options.openai_tpm) if options.openai_tpm else None
        self._pause, self._sleep = Pause(), sleep
        self._http = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {self._key}"} if self._key else None,
            timeout=httpx.Timeout(self._timeout, connect=min(10.0, self._timeout), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=options.openai_workers),
        )

    def complete(self, body: Mapping[str, object], tokens: int) -> Completion:
        """Return the completion; `tokens` is what it may cost, until its answer says what it did cost.

        Raises:
            CaptionError: this request is refused, or fails however often it is tried.
            UsageError, RunError: every request would fail.
        """
        again = tenacity.retry_if_exception_type(TransientError)
        retrying = tenacity.Retrying(stop=_Stop(), wait=_wait, retry=again, sleep=self._sleep, reraise=True)
        try:
            return retrying(self._attempt, body, tokens)
        except UnreachableError as error:
            raise RunError(f"{self._server} cannot be reached ({error}): what was done so far is kept") from None
        except TransientError as error:
            raise CaptionError("failed", f"tried {retrying.statistics['attempt_number']} times: {error}") from None

    def _attempt(self, body: Mapping[str, object], tokens: int) -> Completion:
        if self._requests:
            self._requests.take()
        if self._tokens:
            self._tokens.take(tokens)
        self._pause.wait()
        start = time.monotonic()
        completion = self._completion(self._post(body))
        if self._tokens and completion.usage:
            self._tokens.give(tokens - completion.usage.prompt_tokens - completion.usage.completion_tokens)
        return completion.model_copy(update={"seconds": time.monotonic() - start})

    def _post(self, body: Mapping[str, object]) -> httpx.Response:
        try:
            return self._http.post("chat/completions", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise UnreachableError(str(error) or "no connection in time") from None
        except httpx.TimeoutException:
            raise TransientError(f"no answer in {self._timeout:g} s") from None
        except httpx.RequestError as error:
            raise TransientError(f"the connection broke ({error or type(error).__name__})") from None

    def _completion(self, response: httpx.Response) -> Completion:
        if response.status_code != 200:
            error = failure(response, self._server, self._key)
            if isinstance(error, BusyError) and error.seconds:
                self._pause.extend(error.seconds)
            raise error
        try:
            return Completion.model_validate_json(response.content)
        except ValidationError as error:
            raise TransientError(f"the answer is no chat completion: {error.errors()[0]['msg']}") from None


class _Stop(tenacity.stop.stop_base):
    """Ends the attempts of one request: after six failures (to be busy is none), or when it has lasted too long."""

    def __init__(self) -> None:
        self._failures = 0

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        self._failures += not isinstance(_error(retry_state), BusyError)
        return self._failures >= ATTEMPTS or (retry_state.seconds_since_start or 0.0) > PATIENCE


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
