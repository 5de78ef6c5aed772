"""Progress of long work, with rate and time left.

`bar` draws on a terminal. `lines` logs plain lines: for work inside `sqlmesh plan`, whose own display owns the
terminal, and for output that is not a terminal.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlm4rec_search.common.logging import is_quiet

logger = logging.getLogger(__name__)

_BETWEEN_LINES = 2.0  # seconds

Advance = Callable[[int], None]
Show = Callable[[str, int], AbstractContextManager[Advance]]


@contextmanager
def bar(label: str, total: int) -> Iterator[Advance]:
    """Show a progress bar on stderr while the block runs; call the yielded function with the number of steps done.

    Nothing is shown when only warnings are wanted (`vlm4rec --quiet`).
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    if is_quiet() or not console.is_terminal:
        with lines(label, total) as advance:
            yield advance
        return
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, rate="")

        def step(count: int) -> None:
            progress.update(task, advance=count, rate=_rate(progress.tasks[0].speed or 0.0))

        yield step


@contextmanager
def lines(label: str, total: int) -> Iterator[Advance]:
    """Log `label: done/total, rate, time left` at most once in two seconds, and at the end."""
    start = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= _BETWEEN_LINES or done >= total:
            last = now
            rate = done / max(now - start, 1e-9)
            left = (total - done) / rate if rate else 0.0
            logger.info("%s: %d/%d, %s, %.0f s left", label, done, total, _rate(rate), left)

    yield advance


def _rate(speed: float) -> str:
    """Return a number of steps each second, or the seconds of a step that takes long."""
    return f"{1.0 / speed:.0f} s each" if 0.0 < speed < 0.1 else f"{speed:.1f}/s"
