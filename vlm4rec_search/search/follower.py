"""Keeps an open index at the live release and at the rules of a file."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from vlm4rec_search.common.errors import Vlm4recError

logger = logging.getLogger(__name__)


class Follower:
    """Looks for news in a background thread until it is stopped; each look may raise the errors of this package.

    Attributes:
        problem: why looks failed the last time, None where all succeeded. What was open before stays open.
    """

    def __init__(self, looks: Sequence[Callable[[], None]], seconds: float) -> None:
        """Start to call each of `looks`, whatever becomes of the others, every so many seconds."""
        self.problem: str | None = None
        self._looks, self._seconds, self._stopped = looks, seconds, threading.Event()
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            problems = [problem for problem in map(self._try, self._looks) if problem]
            self._said &= set(problems)
            self.problem = "; ".join(problems) or None

    def _try(self, look: Callable[[], None]) -> str | None:
        """Look, and return why that failed."""
        try:
            look()
        except Exception as error:  # whatever it is, the next look may succeed
            problem = str(error) or type(error).__name__
            if problem not in self._said:  # said once, not every few seconds
                expected = isinstance(error, Vlm4recError)
                logger.warning("the index cannot follow: %s", error, exc_info=None if expected else error)
            self._said.add(problem)
            return problem
        return None

    def stop(self) -> None:
        """Wait for the look in progress, and look no more."""
        self._stopped.set()
        self._thread.join()


def file_state(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced or written, None where there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
