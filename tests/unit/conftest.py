"""Keep unit tests inside their process: a test here that starts a process or opens a connection fails."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OUTSIDE = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "socket.connect")
LIBRARY_LOOKUPS = ("ldconfig", "gcc", "cc", "ld", "objdump")  # importing torch runs `ctypes.util.find_library`
_guarded = False


def _refuse_to_leave_the_process(event: str, arguments: tuple[object, ...]) -> None:
    if _guarded and event in OUTSIDE and Path(str(arguments[0])).name not in LIBRARY_LOOKUPS:
        pytest.fail(f"a unit test may not call {event}; move the test to tests/integration", pytrace=True)


sys.addaudithook(_refuse_to_leave_the_process)  # hooks of the interpreter stay, so one is added for the whole session


@contextmanager
def _guard() -> Iterator[None]:
    global _guarded
    _guarded = True
    try:
        yield
    finally:
        _guarded = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    with _guard():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with _guard():
        return (yield)
