"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return when a condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {seconds:g} seconds")
