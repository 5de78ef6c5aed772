"""Arithmetic on all cores; apart from `concurrency`, since a search need not wait for the import of threadpoolctl."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from threadpoolctl import threadpool_limits

from vlm4rec_search.common.concurrency import run_concurrently, usable_cores

T = TypeVar("T")
R = TypeVar("R")


def map_on_cores(compute: Callable[[T], R], tasks: Sequence[T], most: int | None = None) -> list[R]:
    """Return `compute(task)` of each task, in order, from a thread for each core: for arithmetic without Python's lock.

    Two calls must not overlap: the limit of one thread is that of the process.

    Args:
        compute: mostly numpy, scipy or BLAS, which has one thread in each call meanwhile.
        tasks: of any number.
        most: threads, for tasks that need much memory.
    """
    workers = max(1, min(usable_cores(), len(tasks), most or len(tasks)))
    with threadpool_limits(1):
        computed = dict(run_concurrently(lambda number: compute(tasks[number]), range(len(tasks)), workers))
    return [computed[number] for number in range(len(tasks))]
