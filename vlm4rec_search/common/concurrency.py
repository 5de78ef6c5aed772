"""Calls in threads: many at once with their results as they end, or one in the background."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import cache, partial
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

import duckdb

T = TypeVar("T")
R = TypeVar("R")


def run_concurrently(call: Callable[[T], R], tasks: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Yield each task with `call(task)`, in the order in which the calls end, at most `workers` calls at once.

    A task is taken from `tasks` in the caller's thread, and only when a worker is free, so that an iterator that ends
    early stops the work. With one worker, the calls run in the caller's thread. After an exception of a call, no task
    is started; the results of the calls in flight are yielded, then the exception is raised. A caller that leaves
    early, by ctrl-C or by closing the iterator, waits for no call.
    """
    if workers == 1:
        yield from ((task, call(task)) for task in tasks)
        return
    pool = _DaemonPool(call, workers)
    try:
        yield from pool.run(iter(tasks))
    finally:
        pool.stop()


@cache
def usable_cores() -> int:
    """Return the number of processor cores that this process may use, at least 1.

    DuckDB knows the quota of a container and SLURM_CPUS_ON_NODE; the affinity of the process may allow fewer.
    """
    with duckdb.connect() as connection:
        (threads,) = connection.execute("SELECT current_setting('threads')").fetchone() or (1,)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return min(int(threads), len(affinity(0))) if affinity else int(threads)


def start_in_thread(call: Callable[[], R]) -> Future[R]:
    """Start a call in a daemon thread; a process that ends does not wait for it."""
    future: Future[R] = Future()
    Thread(target=_resolve, args=(future, call), daemon=True).start()
    return future


def call_now(call: Callable[[], R]) -> Future[R]:
    """Call in the caller's thread, and return a finished future like that of `start_in_thread`."""
    future: Future[R] = Future()
    _resolve(future, call)
    return future


def _resolve(future: Future[R], call: Callable[[], R]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # `future.result()` raises it again
        future.set_exception(error)


class _DaemonPool(Generic[T, R]):
    """Daemon threads: a process that ends would wait for the threads of an executor, even for calls that hang."""

    def __init__(self, call: Callable[[T], R], workers: int) -> None:
        self._call = call
        self._tasks: SimpleQueue[tuple[T] | None] = SimpleQueue()
        self._finished: SimpleQueue[tuple[T, Future[R]]] = SimpleQueue()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def run(self, tasks: Iterator[T]) -> Iterator[tuple[T, R]]:
        failure: BaseException | None = None
        running = self._start(tasks, len(self._threads))
        while running:
            task, future = self._finished.get()
            running -= 1
            failure = failure or future.exception()
            if future.exception() is None:
                yield task, future.result()  # the caller stores it before the next task starts: a kill loses no more
            running += self._start(tasks, 1) if failure is None else 0
        if failure is not None:
            raise failure

    def stop(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)

    def _start(self, tasks: Iterator[T], most: int) -> int:
        """Queue the next tasks and return how many there were."""
        started = 0
        for task in islice(tasks, most):
            self._tasks.put((task,))
            started += 1
        return started

    def _work(self) -> None:
        while (arguments := self._tasks.get()) is not None:
            self._finished.put((arguments[0], call_now(partial(self._call, *arguments))))
