"""Several calls at once, their results as they come."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def completed(call: Callable[[T], R], tasks: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Yield each task with `call(task)`, in the order in which the calls end, at most `workers` of them at once.

    A task is taken from `tasks` only when a worker is free, in the caller's thread, so that whoever stops handing out
    tasks stops the work. With one worker everything happens in the caller's thread. After an exception of a call no
    task is started; the calls in flight end and are yielded, then it is raised. A caller that leaves early, by ctrl-C
    or by closing the iterator, waits for no call.
    """
    if workers == 1:
        yield from ((task, call(task)) for task in tasks)
        return
    crew = _Crew(call, workers)
    try:
        yield from crew.work(iter(tasks))
    finally:
        crew.dismiss()


def started(call: Callable[[], R]) -> Future[R]:
    """Call in a daemon thread of its own, for what a process that ends need not wait for."""
    outcome: Future[R] = Future()
    Thread(target=_settle, args=(outcome, call), daemon=True).start()
    return outcome


def called(call: Callable[[], R]) -> Future[R]:
    """Call here and now, with an outcome like that of `started`."""
    outcome: Future[R] = Future()
    _settle(outcome, call)
    return outcome


def _settle(outcome: Future[R], call: Callable[[], R]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:  # raised again where the result is asked for
        outcome.set_exception(error)


class _Crew(Generic[T, R]):
    """Daemon threads, since those of an executor are waited for when the process ends, calls that hang and all."""

    def __init__(self, call: Callable[[T], R], workers: int) -> None:
        self._call = call
        self._given: SimpleQueue[tuple[T] | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[T, Future[R]]] = SimpleQueue()
        self._threads = [Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def work(self, tasks: Iterator[T]) -> Iterator[tuple[T, R]]:
        failure: BaseException | None = None
        running = self._give(tasks, len(self._threads))
        while running:
            task, outcome = self._ended.get()
            running -= 1
            failure = failure or outcome.exception()
            if outcome.exception() is None:
                yield task, outcome.result()  # kept by the caller before the next is started: a kill loses no more
            running += self._give(tasks, 1) if failure is None else 0
        if failure is not None:
            raise failure

    def dismiss(self) -> None:
        for _ in self._threads:
            self._given.put(None)

    def _give(self, tasks: Iterator[T], most: int) -> int:
        """Hand out the next tasks and return how many there were."""
        given = 0
        for task in islice(tasks, most):
            self._given.put((task,))
            given += 1
        return given

    def _serve(self) -> None:
        while (given := self._given.get()) is not None:
            self._ended.put((given[0], called(partial(self._call, *given))))
