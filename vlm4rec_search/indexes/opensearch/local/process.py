"""A node's process: detached, and known by a lock on its folder that it holds for as long as it lives.

The lock is inherited, so the kernel takes it back when the process ends, however it ends: a state file that was left
behind, or a process id that now belongs to another program, is never mistaken for a running node.
"""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from vlm4rec_search.common.errors import RunError

_POLL = 0.1  # seconds
_SHOWN = 300  # characters of a log line in a message


@dataclass(frozen=True)
class Running:
    """A process and where it answers."""

    pid: int
    url: str


@contextmanager
def claimed(folder: Path) -> Iterator[int]:
    """Hold the folder's lock, and yield its file descriptor for a process to inherit.

    Raises:
        BlockingIOError: somebody holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def launch(folder: Path, command: Sequence[str], environment: Mapping[str, str], url: str) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, write down where it answers, and what it says into `server.log`.

    Raises:
        BlockingIOError: one runs in the folder.
    """
    with claimed(folder) as lock, log(folder).open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - no shell, and nobody's text but ours
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=[lock], cwd=folder,
        )  # fmt: skip
    fresh = folder / "server.json.new"
    fresh.write_text(json.dumps(asdict(Running(process.pid, url))), "utf-8")
    fresh.replace(folder / "server.json")
    return process


def running(folder: Path) -> Running | None:
    """Return the process that lives in the folder, or None."""
    if not (folder / "lock").exists():
        return None
    with suppress(BlockingIOError), claimed(folder):
        return None
    with suppress(OSError, ValueError, TypeError):
        return Running(**json.loads((folder / "server.json").read_text("utf-8")))
    return None


def end(folders: Sequence[Path], patience: float = 60.0) -> bool:
    """Ask the folders' processes to end, and wait until they are gone; return whether there was one.

    Those that stay for `patience` seconds are killed.

    Raises:
        RunError: one cannot be ended.
    """
    left = [folder for folder in folders if running(folder)]
    found = bool(left)
    for request in (signal.SIGTERM, signal.SIGKILL):
        for process in filter(None, map(running, left)):
            with suppress(ProcessLookupError):
                os.kill(process.pid, request)
        deadline = time.monotonic() + patience
        while (left := [folder for folder in left if running(folder)]) and time.monotonic() < deadline:
            time.sleep(_POLL)
    if left:
        raise RunError(f"OpenSearch does not end; look at {log(left[0])}")
    return found


def log(folder: Path) -> Path:
    """Return the file that holds what the process said."""
    return folder / "server.log"


def last_words(folder: Path) -> str:
    """Return the last error of the log, or its last line, shortened, and where the log is."""
    lines = [line.strip() for line in log(folder).read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith("at ") and ("ERROR" in line or "Exception" in line)]
    told = (errors or lines or ["it said nothing"])[-1][:_SHOWN]
    return f"{told} (log: {log(folder)})"
