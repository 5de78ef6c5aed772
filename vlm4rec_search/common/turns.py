"""Turns of threads that compute: many more of them at once than there are cores only wait for Python's lock."""

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Turns:
    """Lets some threads compute at once; the others wait in the order in which they came.

    A turn is a `with` block. A block inside of another one of the same thread waits for nothing. Ctrl-C while a thread
    waits loses no turn; the handler of another signal must not raise an exception while one is taken or passed on.
    """

    def __init__(self, most: int) -> None:
        """Let `most` threads compute at once, 1 or more."""
        self._free, self._waiting = most, deque[threading.Lock]()
        self._lock, self._own = threading.Lock(), threading.local()

    def __enter__(self) -> Self:
        depth = getattr(self._own, "depth", 0)
        if not depth:
            self._take()
        self._own.depth = depth + 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        depth = self._own.depth - 1
        self._own.depth = max(depth, 0)
        if depth == 0:  # below 0 the turn was lost: ctrl-C ended the wait for it, see `leaving`
            self._pass_on()

    def leaving(self, compute: Callable[P, R]) -> Callable[P, R]:
        """Return a function whose calls give the turn of their thread to others, for what takes long without Python.

        A thread that comes back from such a call is the next to go on, since it has waited before.
        """

        def call(*arguments: P.args, **options: P.kwargs) -> R:
            depth = getattr(self._own, "depth", 0)
            if not depth:
                return compute(*arguments, **options)
            self._own.depth = 0
            self._pass_on()
            try:
                return compute(*arguments, **options)
            finally:
                self._take(comes_back=True)
                self._own.depth = depth

        return call

    def _take(self, comes_back: bool = False) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            (self._waiting.appendleft if comes_back else self._waiting.append)(mine)
        try:
            mine.acquire()  # released by the thread that passes its turn on
        except BaseException:  # ctrl-C
            with self._lock:
                is_waiting = mine in self._waiting
                if is_waiting:
                    self._waiting.remove(mine)
            if not is_waiting:
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
