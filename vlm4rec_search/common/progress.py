"""Progress of long work, with rate and time left.

`bar` draws on a terminal; `lines` prints plain lines, for work inside `sqlmesh plan`, whose own display owns the
terminal, and for logs.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
Show = Callable[[str, int], AbstractContextManager[Advance]]


@contextmanager
def bar(label: str, total: int) -> Iterator[Advance]:
    """Show a progress bar on stderr while the block runs; call the yielded function with the number of steps done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    if not console.is_terminal:
        with lines(label, total) as advance:
            yield advance
        return
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, rate="")

        def step(count: int) -> None:
            speed = progress.tasks[0].speed or 0.0
            progress.update(task, advance=count, rate=f"{speed:.1f}/s")

        yield step


@contextmanager
def lines(label: str, total: int, every: float = 2.0) -> Iterator[Advance]:
    """Print `label done/total, rate, time left` to stderr at most once in `every` seconds, and at the end."""
    start = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= every or done >= total:
            last = now
            rate = done / max(now - start, 1e-9)
            left = (total - done) / rate if rate else 0.0
            print(f"{label}: {done}/{total}, {rate:.1f}/s, {left:.0f} s left", file=sys.stderr, flush=True)

    yield advance
