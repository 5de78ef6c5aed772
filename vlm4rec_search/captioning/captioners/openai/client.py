"""Chat completions of an OpenAI-compatible server, from many threads: limits kept, failures tried again."""

import time
from collections.abc import Callable, Mapping

import httpx
import tenacity
from pydantic import ValidationError

from vlm4rec_search.captioning.base import CaptionError
from vlm4rec_search.captioning.captioners.openai.openai_answers import Answered, Completion
from vlm4rec_search.captioning.captioners.openai.openai_failures import (
    PATIENCE,
    BusyError,
    TransientError,
    UnreachableError,
    failure,
)
from vlm4rec_search.captioning.captioners.openai.rate_limit import Gate
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.http import bounded, deadline
from vlm4rec_search.common.settings import Settings, secret

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
        self._http = bounded(httpx.Client(base_url=url, headers=headers, timeout=timeout, limits=limits))

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
