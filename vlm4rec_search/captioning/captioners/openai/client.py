"""The HTTP client for OpenAI-compatible servers, used by many threads: rate limits, retries, and lost answers."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
import tenacity

from vlm4rec_search.captioning.base import CaptionError
from vlm4rec_search.captioning.captioners.openai.fleet import Fleet, Server
from vlm4rec_search.captioning.captioners.openai.rate_limit import RateLimiter
from vlm4rec_search.captioning.captioners.openai.responses import (
    ATTEMPTS,
    PATIENCE,
    BusyError,
    Completion,
    TransientError,
    UnreachableError,
    Usage,
    parse_completion,
)
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.http import DeadlineTransport, deadline
from vlm4rec_search.common.settings import Settings, secret

_JITTER = tenacity.wait_random(0, 1)
_BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=20)


@dataclass(frozen=True)
class CompletedRequest:
    """A completion and the cost of its request.

    Attributes:
        completion: the server's answer.
        seconds: duration of the successful attempt.
        lost: the number of earlier attempts whose answers were lost in transit; a server charges for these.
    """

    completion: Completion
    seconds: float
    lost: int

    @property
    def is_counted(self) -> bool:
        """Whether the server reports the tokens of both prompt and answer."""
        usage = self.completion.usage or Usage()
        return bool(usage.prompt_tokens) and usage.completion_tokens is not None

    def count_tokens(self, prompt_tokens: int, longest_answer: int) -> tuple[int, int]:
        """Return tokens in and out of all attempts.

        Args:
            prompt_tokens: estimate for the prompt, used where the server reports none and for each lost attempt.
            longest_answer: tokens counted for a lost answer. An answer that arrived without a count is estimated at
                four characters a token.
        """
        usage = self.completion.usage or Usage()
        estimate = len(self.completion.choices[0].message.text) // 4
        answer_tokens = estimate if usage.completion_tokens is None else usage.completion_tokens
        return (
            (usage.prompt_tokens or prompt_tokens) + self.lost * prompt_tokens,
            answer_tokens + self.lost * longest_answer,
        )


class ChatClient:
    """One server, or several of the same model, with their key and the rate limits of each.

    A failed request is sent again, to another server where there are several; a server that keeps failing is left out
    for a while.

    Args:
        settings: addresses, key, timeout, rate limits and the number of connections to each server.
        sleep: waits between the attempts of a request to a single server, in seconds.

    Attributes:
        servers: their number.

    Raises:
        UsageError: an address or the key is invalid.
    """

    def __init__(self, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        urls = [_parse_address(address.strip()) for address in settings.openai_url.split(",")]
        if len(set(urls)) < len(urls):
            raise UsageError("VLM4REC_OPENAI_URL names a server twice: name each once")
        self._key = secret("VLM4REC_OPENAI_KEY", settings.openai_key, settings.openai_key_file)
        self._timeout, self._sleep, self.servers = settings.openai_timeout, sleep, len(urls)
        self._fleet = Fleet([self._open(url, settings) for url in urls], settings.openai_workers)

    def _open(self, url: httpx.URL, settings: Settings) -> Server[httpx.Client]:
        timeout = httpx.Timeout(self._timeout, connect=min(10.0, self._timeout), pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=settings.openai_workers)
        headers = {"authorization": f"Bearer {self._key}"} if self._key else None
        transport = DeadlineTransport(limits, trust_env=True)
        client = httpx.Client(transport=transport, base_url=url, headers=headers, timeout=timeout)
        limiter = RateLimiter(settings.openai_rpm, settings.openai_tpm)
        return Server(f"{url.scheme}://{url.netloc.decode()}", client, limiter)

    def complete(self, body: Mapping[str, object], prompt_tokens: int, longest_answer: int) -> CompletedRequest:
        """Send a chat request, retry transient failures, and return the completion.

        Args:
            body: the request as JSON.
            prompt_tokens: estimated tokens of the prompt, reserved under the rate limit until the server reports them.
            longest_answer: the largest number of tokens of the answer, reserved likewise.

        Raises:
            CaptionError: this request is refused, or all of its attempts fail. Its token counts are those of answers
                that were lost in transit, each assumed to be of the largest length.
            UsageError, RunError: every request would fail.
        """
        retry = tenacity.retry_if_exception_type(TransientError)
        stop = _StopRule()
        wait = _wait if self._fleet.is_single else tenacity.wait_none()  # the fleet waits until a server is awake
        retrying = tenacity.Retrying(stop=stop, wait=wait, retry=retry, sleep=self._sleep, reraise=True)
        try:
            completion, seconds = retrying(self._attempt, body, prompt_tokens + longest_answer, stop)
        except TransientError as error:
            if isinstance(error, UnreachableError) and (self._fleet.is_single or self._fleet.is_unreachable):
                names = ", ".join(server.name for server in self._fleet.servers)
                raise RunError(f"{names} cannot be reached ({error}): earlier captions are kept") from None
            reason, lost = f"tried {retrying.statistics['attempt_number']} times: {error}", stop.lost
            raise CaptionError("failed", reason, "", lost * prompt_tokens, lost * longest_answer) from None
        except CaptionError as error:
            error.tokens_in, error.tokens_out = stop.lost * prompt_tokens, stop.lost * longest_answer
            raise
        return CompletedRequest(completion, seconds, stop.lost)

    def _attempt(self, body: Mapping[str, object], tokens: int, stop: "_StopRule") -> tuple[Completion, float]:
        with self._fleet.lend(stop.tried) as (server, queued):
            lent = time.monotonic()
            server.limiter.acquire(tokens)
            start = time.monotonic()
            stop.queued += queued + start - lent
            try:
                completion = parse_completion(self._post(server, body), server.name, self._key)
            except TransientError as error:
                stop.tried.append(server)
                self._fleet.failed(server, error)
                raise
            except CaptionError:
                self._fleet.succeeded(server)
                raise
            self._fleet.succeeded(server)
            usage = completion.usage
            if usage and usage.prompt_tokens:
                server.limiter.give_back(tokens - usage.prompt_tokens - (usage.completion_tokens or 0))
            return completion, time.monotonic() - start

    def _post(self, server: Server[httpx.Client], body: Mapping[str, object]) -> httpx.Response:
        begun = False
        try:
            with (
                deadline(self._timeout),
                server.client.stream("POST", "chat/completions", json=body) as response,
            ):
                begun = response.status_code == 200
                response.read()
                return response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise UnreachableError(self._describe(error) or "no connection in time") from None
        except httpx.TimeoutException as error:
            is_late = isinstance(error, httpx.ReadTimeout)
            raise TransientError(f"no answer in {self._timeout:g} s", billed=is_late) from None
        except httpx.RequestError as error:
            reason = self._describe(error) or type(error).__name__
            raise TransientError(f"the connection broke ({reason})", billed=begun) from None

    def _describe(self, error: httpx.RequestError) -> str:
        """Return the message of an error without the key: some quote a header."""
        return str(error).replace(self._key, "***") if self._key else str(error)


class _StopRule(tenacity.stop.stop_base):
    """Ends the attempts of one request after `ATTEMPTS` failures or `PATIENCE` seconds.

    A busy server does not count as a failure.

    Attributes:
        lost: the number of answers that were lost in transit.
        queued: seconds spent waiting for our own limits, which do not count towards `PATIENCE`. The time in which all
            servers rest does.
        tried: the servers that failed the request.
    """

    def __init__(self) -> None:
        self._failures = self.lost = 0
        self.queued = 0.0
        self.tried: list[Server[httpx.Client]] = []

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = _last_error(retry_state)
        self._failures += not isinstance(error, BusyError)
        self.lost += isinstance(error, TransientError) and error.billed
        elapsed = (retry_state.seconds_since_start or 0.0) - self.queued
        return self._failures >= ATTEMPTS or elapsed > PATIENCE


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds until the next attempt: Retry-After plus a jitter, or else an exponential random backoff."""
    error = _last_error(state)
    if isinstance(error, BusyError) and error.seconds is not None:
        return error.seconds + _JITTER(state)
    return _BACKOFF(state)


def _last_error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _parse_address(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise UsageError(f"VLM4REC_OPENAI_URL is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("VLM4REC_OPENAI_URL has to look like http://localhost:8000/v1")
    if url.userinfo:
        raise UsageError("VLM4REC_OPENAI_URL contains a password: put the key into VLM4REC_OPENAI_KEY instead")
    return url
