"""Which of several captioning servers gets a request, on a simulated clock."""

from contextlib import ExitStack

import pytest

from vlm4rec_search.captioning.captioners.openai.fleet import (
    FAILURES_IN_A_ROW,
    FIRST_REST,
    LONGEST_REST,
    PATIENT_RESTS,
    Fleet,
    Server,
)
from vlm4rec_search.captioning.captioners.openai.rate_limit import RateLimiter
from vlm4rec_search.captioning.captioners.openai.responses import (
    PATIENCE,
    BusyError,
    TransientError,
    UnreachableError,
)
from vlm4rec_search.common.errors import RunError

OOPS, GONE = TransientError("500"), UnreachableError("refused")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make_fleet(names: str, slots: int = 2) -> tuple[Fleet[None], list[Server[None]], Clock]:
    clock = Clock()
    servers = [Server(name, None, RateLimiter(None, None)) for name in names]
    return Fleet(servers, slots, clock), servers, clock


def lent(fleet: Fleet[None], count: int, *tried: Server[None]) -> list[str]:
    """Return the names of the servers of this many requests at once."""
    with ExitStack() as stack:
        return [stack.enter_context(fleet.lend(tried))[0].name for _ in range(count)]


def test_the_server_with_the_fewest_requests_is_next_and_none_gets_more_than_its_slots() -> None:
    fleet, (first, *_), _ = make_fleet("abc")
    assert sorted(lent(fleet, 6)) == ["a", "a", "b", "b", "c", "c"]
    with fleet.lend() as (server, _):
        assert server is first
        assert lent(fleet, 2) == ["b", "c"]
    assert [server.outstanding for server in fleet.servers] == [0, 0, 0]


def test_a_failed_request_goes_to_another_server_and_back_where_there_is_none() -> None:
    fleet, (first, second), _ = make_fleet("ab")
    assert lent(fleet, 1, first) == ["b"]
    assert lent(fleet, 1, first, second) == ["a"]


def test_a_server_rests_after_failures_in_a_row_and_gets_one_request_until_one_succeeds() -> None:
    fleet, (first, _), clock = make_fleet("ab")
    for _ in range(FAILURES_IN_A_ROW - 1):
        fleet.failed(first, OOPS)
    fleet.succeeded(first)
    for _ in range(FAILURES_IN_A_ROW - 1):
        fleet.failed(first, OOPS)
    assert lent(fleet, 1) == ["a"], "failures between good answers may be due to the photos"
    fleet.failed(first, OOPS)
    assert lent(fleet, 2) == ["b", "b"]
    clock.now += FIRST_REST
    assert sorted(lent(fleet, 3)) == ["a", "b", "b"]
    fleet.failed(first, OOPS)
    clock.now += FIRST_REST
    assert lent(fleet, 2) == ["b", "b"], "the second rest is longer"
    clock.now += LONGEST_REST
    fleet.succeeded(first)
    assert sorted(lent(fleet, 4)) == ["a", "a", "b", "b"]


def test_a_server_that_is_gone_rests_at_once_and_a_busy_one_as_long_as_it_asks() -> None:
    fleet, (first, second, _), clock = make_fleet("abc")
    fleet.failed(first, GONE)
    fleet.failed(second, BusyError("429", 30.0))
    assert lent(fleet, 2) == ["c", "c"]
    clock.now += 29.0
    assert sorted(lent(fleet, 3)) == ["a", "c", "c"]
    clock.now += 1.0
    assert sorted(lent(fleet, 5)) == ["a", "b", "b", "c", "c"]


def test_when_no_server_can_be_reached_requests_end() -> None:
    fleet, servers, clock = make_fleet("ab")
    for _ in range(PATIENT_RESTS):
        assert not fleet.is_unreachable
        for server in servers:
            fleet.failed(server, GONE)
        clock.now += LONGEST_REST
    with pytest.raises(UnreachableError, match="none of the 2 servers accepts a connection"), fleet.lend():
        pass


def test_a_long_pause_ends_the_requests_only_where_no_other_server_is_left() -> None:
    fleet, (first, second, third), clock = make_fleet("abc")
    fleet.failed(first, BusyError("429: hourly limit", 2 * PATIENCE))
    assert lent(fleet, 2) == ["b", "c"]
    for _ in range(PATIENT_RESTS):
        fleet.failed(second, GONE)
        clock.now += LONGEST_REST
    with pytest.raises(RunError, match=r"a asks for a pause of 11\d\d s \(429: hourly limit\), and no other"):
        fleet.failed(third, BusyError("429: daily limit", 9 * PATIENCE))
    with pytest.raises(RunError, match="asks for a pause"), fleet.lend():
        pass
    alone, (only,), _ = make_fleet("a")
    with pytest.raises(RunError, match=r"a asks for a pause of 601 s \(429\): earlier captions are kept"):
        alone.failed(only, BusyError("429", PATIENCE + 1.0))


def test_a_single_server_never_rests() -> None:
    fleet, (only,), _ = make_fleet("a")
    for _ in range(PATIENT_RESTS):
        fleet.failed(only, GONE)
    assert lent(fleet, 2, only) == ["a", "a"]
