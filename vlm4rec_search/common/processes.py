"""Calls in new processes, for arithmetic that holds Python's lock."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from threadpoolctl import threadpool_limits

from vlm4rec_search.common.errors import RunError

T = TypeVar("T")
R = TypeVar("R")


def run_in_processes(
    call: Callable[[T], R],
    tasks: Sequence[T],
    processes: int,
    cure: str,
    prepare: Callable[[], None] | None = None,
) -> Iterator[R]:
    """Yield `call(task)` of each task, in order, from new processes with one thread of arithmetic each.

    Args:
        call: a function of a module, or a `partial` of one; it, tasks and results are sent by pickle.
        tasks: whose number bounds the processes.
        processes: at most so many at once.
        cure: what to do where a process is ended.
        prepare: is called first in each process.

    Raises:
        RunError: a process was ended.
    """
    context = get_context("spawn")  # a fork would copy locks that threads of this process hold
    with ProcessPoolExecutor(min(processes, len(tasks)), context, _begin, (prepare,)) as pool:
        try:
            yield from pool.map(call, tasks)
        except BrokenProcessPool:
            raise RunError(f"a process was ended, perhaps for want of memory: {cure}") from None


def _begin(prepare: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C ends the process that waits for this one
    threadpool_limits(1)  # or all processes would compete for the same cores
    if prepare is not None:
        prepare()
