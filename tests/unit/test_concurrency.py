"""Concurrent calls in threads, and rate limits on a simulated clock."""

from collections.abc import Iterator
from itertools import count
from os import sched_getaffinity, sched_setaffinity
from threading import Barrier, Event, Thread, get_ident

import numpy as np  # noqa: F401  a library with threads of its own
import pytest
from threadpoolctl import threadpool_info

from vlm4rec_search.captioning.captioners.openai.rate_limit import RateLimiter
from vlm4rec_search.common.concurrency import run_concurrently, usable_cores
from vlm4rec_search.common.cores import map_on_cores


def test_results_are_yielded_in_the_order_in_which_calls_end() -> None:
    release = Event()

    def call(task: int) -> int:
        if task == 0:
            assert release.wait(30)
        return task * 10

    finished = []
    for task, result in run_concurrently(call, range(20), workers=2):
        assert result == task * 10
        finished.append(task)
        if len(finished) == 19:
            release.set()
    assert finished == [*range(1, 20), 0]


def test_a_process_that_may_use_one_core_counts_one() -> None:
    counted = []

    def count_on_one_core() -> None:
        sched_setaffinity(0, list(sched_getaffinity(0))[:1])  # of this thread alone
        counted.append(usable_cores.__wrapped__())

    thread = Thread(target=count_on_one_core)
    thread.start()
    thread.join()
    assert counted == [1]


@pytest.mark.parametrize(("granted", "counted"), [(1, 1), (1_000, len(sched_getaffinity(0)))])
def test_cores_are_those_that_a_scheduler_grants(monkeypatch: pytest.MonkeyPatch, granted: int, counted: int) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", str(granted))  # as a quota, which only root may set
    assert usable_cores.__wrapped__() == counted


def test_arithmetic_runs_on_all_cores_and_keeps_its_order() -> None:
    together = Barrier(usable_cores())

    def compute(task: int) -> tuple[int, set[int]]:
        together.wait(30)
        return task, {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    results = map_on_cores(compute, range(3 * usable_cores()))
    assert [task for task, _ in results] == list(range(3 * usable_cores()))
    assert set().union(*(threads for _, threads in results)) == {1}
    assert map_on_cores(lambda task: get_ident(), range(3), 1) == [get_ident()] * 3
    assert map_on_cores(compute, []) == []


def test_as_many_calls_run_at_once_as_there_are_workers() -> None:
    together, taken = Barrier(4), []

    def tasks() -> Iterator[int]:
        for task in range(8):
            taken.append(task)
            yield task

    ended = run_concurrently(lambda task: together.wait(30), tasks(), workers=4)
    next(ended)  # the barrier opens only when four calls are in it
    assert taken == [0, 1, 2, 3]
    assert len(list(ended)) == 7
    assert taken == list(range(8))


def test_after_a_failure_calls_in_flight_are_yielded_and_no_task_starts() -> None:
    together = Barrier(3)

    def call(task: int) -> int:
        if task < 3:
            together.wait(30)
        if task == 1:
            raise ValueError("no")
        return task

    yielded = []
    with pytest.raises(ValueError, match="no"):
        for task, _ in run_concurrently(call, count(), workers=3):
            yielded.append(task)
    assert {0, 2} <= set(yielded)
    assert 1 not in yielded


def test_one_worker_runs_in_the_callers_thread() -> None:
    assert list(run_concurrently(lambda task: get_ident(), "ab", workers=1)) == [("a", get_ident()), ("b", get_ident())]


class Clock:
    """A clock whose time passes only in `sleep`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.mark.parametrize("limit", [1, 7, 60, 90, 600])
def test_no_sixty_seconds_see_more_requests_than_the_limit(limit: int) -> None:
    clock = Clock()
    limiter = RateLimiter(limit, None, clock.time, clock.sleep)
    moments = []
    for _ in range(3 * limit + 3):
        limiter.acquire(1_000)
        moments.append(clock.now)
    for start in moments:
        assert sum(start <= moment <= start + 60 - 1e-6 for moment in moments) <= limit
    assert moments[-1] - moments[0] <= 60 * (3 * limit + 3) / limit * 60 / 59


def test_no_sixty_seconds_see_more_tokens_than_the_limit() -> None:
    clock = Clock()
    limiter, sizes, moments = RateLimiter(None, 6_000, clock.time, clock.sleep), (100, 20, 60, 3), []
    for number in range(400):
        limiter.acquire(sizes[number % 4])
        moments.append((clock.now, sizes[number % 4]))
    for start, _ in moments:
        assert sum(size for moment, size in moments if start <= moment <= start + 60 - 1e-6) <= 6_000
    assert moments[-1][0] - moments[0][0] == pytest.approx((100 * 183 - 100) / 98.333, rel=0.01)


def test_tokens_by_hand() -> None:
    """600 tokens/minute: 10 at once, then (600 - 10) / 60 = 9.8333 a second; 5 take 0.508475 s, 10 take 1.016949 s."""
    clock = Clock()
    limiter = RateLimiter(None, 600, clock.time, clock.sleep)
    limiter.acquire(10)
    limiter.acquire(5)
    limiter.acquire(10)
    assert clock.slept == [0.508475, 1.016949]
    limiter.give_back(10)
    limiter.acquire(10)
    assert len(clock.slept) == 2
    limiter.give_back(-5)
    limiter.acquire(0)
    assert clock.slept[2:] == [0.508475]


def test_an_extended_pause_lasts_until_its_latest_end() -> None:
    clock = Clock()
    limiter = RateLimiter(None, None, clock.time, clock.sleep)
    limiter.acquire(1)
    assert clock.slept == []
    limiter.pause(5)
    limiter.pause(2)
    limiter.acquire(1)
    assert clock.now == 105.0


def test_calls_that_wait_in_a_pause_still_keep_their_distance() -> None:
    """60 requests a minute, one at once: after the pause, the second request waits for another 60 / 59 s."""
    clock = Clock()
    limiter = RateLimiter(60, None, clock.time, clock.sleep)
    limiter.acquire(0)
    limiter.pause(3)
    limiter.acquire(0)
    limiter.acquire(0)
    assert clock.slept == [3.0, 1.016949]
