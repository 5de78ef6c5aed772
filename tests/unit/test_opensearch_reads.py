"""Reads of a search: what is repeated and how long, and when a server is left alone."""

import time

import pytest
from opensearchpy import exceptions
from urllib3 import Timeout

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.indexes.opensearch import reads
from vlm4rec_search.indexes.opensearch.connection import UnreachableError
from vlm4rec_search.indexes.opensearch.limits import Limits
from vlm4rec_search.indexes.opensearch.reads import (
    FAILURES,
    PARTLY,
    CircuitBreaker,
    CircuitOpenError,
    PartlyAnsweredError,
    Reads,
)
from vlm4rec_search.search.backend import UnavailableError

LIMITS = Limits(deadline=60.0, connect=2.0, read=5.0)
BUSY = exceptions.TransportError(503, "busy", {})


class Server:
    """Raises the given errors, then answers; counts the requests."""

    def __init__(self, *errors: Exception) -> None:
        self._errors, self.requests = list(errors), 0

    def read(self, _timeout: Timeout) -> str:
        self.requests += 1
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


def test_what_may_succeed_later_is_repeated() -> None:
    server = Server(BUSY, UnreachableError("cut"), exceptions.TransportError(429, "slow down", {}))
    assert Reads.begin(LIMITS, CircuitBreaker()).until_answered(server.read) == "answer"
    assert server.requests == 4


@pytest.mark.parametrize("error", [exceptions.TransportError(400, "bad", {}), RunError("no"), RuntimeError("bug")])
def test_what_fails_for_good_is_not_repeated(error: Exception) -> None:
    server, breaker = Server(error), CircuitBreaker()
    with pytest.raises(type(error)):
        Reads.begin(LIMITS, breaker).until_answered(server.read)
    assert server.requests == 1


def test_a_500_and_a_read_without_repetitions_are_tried_once() -> None:
    for errors, repeats in (([exceptions.TransportError(500, "broken", {})], True), ([BUSY], False)):
        server = Server(*errors)
        with pytest.raises(exceptions.TransportError):
            Reads.begin(LIMITS, CircuitBreaker()).share(0.5, repeats).until_answered(server.read)
        assert server.requests == 1


def test_a_request_of_which_a_part_fails_is_soon_answered_by_the_rest() -> None:
    server, breaker = Server(*[PartlyAnsweredError("no memory", "the rest")] * 99), CircuitBreaker()
    for _ in range(FAILURES // PARTLY + 1):  # the server works: it is not left alone
        with pytest.raises(PartlyAnsweredError, match="no memory"):
            Reads.begin(LIMITS, breaker).until_answered(server.read)
    assert server.requests == (FAILURES // PARTLY + 1) * PARTLY
    breaker.check()


def test_nothing_is_sent_after_the_deadline() -> None:
    server = Server()
    with pytest.raises(UnavailableError, match="within the deadline of 0 s"):
        Reads.begin(Limits(0.0, 1.0, 1.0), CircuitBreaker()).until_answered(server.read)
    assert server.requests == 0


def test_a_request_gets_no_more_than_the_time_that_is_left() -> None:
    timeout = Reads.begin(Limits(1.0, 2.0, 5.0), CircuitBreaker()).timeout()
    assert 0 < timeout.connect_timeout <= 1.0
    half = Reads.begin(LIMITS, CircuitBreaker()).share(0.5)
    assert half.end - time.monotonic() <= 30.0


def test_a_server_that_fails_is_left_alone_until_one_request_finds_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(reads.time, "monotonic", lambda: now)
    breaker = CircuitBreaker()
    for _ in range(FAILURES):
        breaker.check()
        breaker.record("the server refuses: status 503")
    with pytest.raises(CircuitOpenError, match=r"failed 10 times in a row and is left alone for a while; .*status 503"):
        breaker.check()
    now += reads.PAUSE
    breaker.check()  # one request tries
    with pytest.raises(CircuitOpenError):
        breaker.check()
    breaker.record(None)
    breaker.check()


def test_one_success_closes_the_circuit_of_many_failures() -> None:
    breaker = CircuitBreaker()
    for outcome in ["busy"] * (FAILURES - 1) + [None] + ["busy"] * (FAILURES - 1):
        breaker.record(outcome)
    breaker.check()


def test_the_limits_of_a_program_are_those_of_the_settings() -> None:
    assert Limits() == Limits.of(ExplicitSettings())
