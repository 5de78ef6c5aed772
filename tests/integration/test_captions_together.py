"""Several processes and threads with one cache: none repeats a call that another one makes or has finished."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Barrier

import pytest
from helpers.colour_catalogue import install_colour_captioner, read_calls, write_catalogue
from helpers.workspace import Workspace

from vlm4rec_search.common.cache import RAW, Cache, Failure, FillPolicy
from vlm4rec_search.common.cache.cache import LOCK_FILE
from vlm4rec_search.common.cache.scheduler import KeyLocks
from vlm4rec_search.common.concurrency import start_in_thread

ITEMS = [(f"i{n:02}", (n, 100, 200), 0) for n in range(60)]
HOLDING = """
import sys, time
from pathlib import Path
from vlm4rec_search.common.cache import RAW, Cache

def compute(batch):
    print("at work", flush=True)
    time.sleep(float(sys.argv[2]))
    return [b"by the other" for _ in batch]

Cache(Path(sys.argv[1])).get_or_compute("caption", "test@1", {"a": "a"}, compute, RAW, exclusive=True)
"""
OPENING = """
import sys
from pathlib import Path
from vlm4rec_search.common.cache import Cache

print("ready", flush=True)
for number in range(20):
    sys.stdin.readline()
    Cache(Path(sys.argv[1]) / str(number)).close()
"""


def start_other_process(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    """Start a process that computes key "a" for this many seconds, and wait until the computation has started."""
    command = [sys.executable, "-c", HOLDING, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


def test_processes_that_open_a_new_cache_at_once_all_get_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENING, str(tmp_path / "cache")]
    pipe = subprocess.PIPE
    openers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n" * 20)
        opener.stdin.flush()
    outputs = [opener.communicate(timeout=60)[1] for opener in openers]
    assert [opener.returncode for opener in openers] == [0] * 4, outputs


def test_two_runs_at_once_call_once_for_each_photo(workspace: Workspace) -> None:
    workspace.settings |= {"VLM4REC_CAPTIONER": "colour:30", **install_colour_captioner(workspace.folder)}
    write_catalogue(workspace.folder, *ITEMS)
    runs = [workspace.start("vlm4rec", "captions", "run", "--json") for _ in range(2)]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert Counter(Counter(read_calls(workspace.folder)).values()) == {1: 60}
    assert workspace.json("captions", "run")["statuses"] == {"ok": 60}
    rows = workspace.json("captions", "ledger")["rows"]
    assert sum(row["computed"] for row in rows) == 60


def test_a_call_of_another_process_is_awaited_and_not_repeated(tmp_path: Path) -> None:
    with start_other_process(tmp_path, 1.0), Cache(tmp_path) as cache:
        results = cache.get_or_compute(
            "caption", "test@1", {"a": "a", "b": "b"}, lambda batch: [b"by us"] * len(batch), RAW, exclusive=True
        )
    assert results.values == {"a": b"by the other", "b": b"by us"}
    assert (results.computed, results.cached) == (1, 1)
    with Cache(tmp_path) as cache:
        assert [(row.computed, row.cached) for row in cache.ledger()] == [(1, 0), (1, 1)]


def test_two_threads_of_a_process_compute_each_key_once(tmp_path: Path) -> None:
    calls: list[str] = []
    together = Barrier(2)

    def compute(batch: Sequence[str]) -> list[bytes | Failure]:
        calls.extend(batch)  # of several threads
        time.sleep(0.02)
        return [b"made"] * len(batch)

    def fill() -> int:
        with Cache(tmp_path) as cache:
            together.wait(30)
            inputs = {str(number): str(number) for number in range(20)}
            results = cache.get_or_compute(
                "caption", "test@1", inputs, compute, RAW, batch_size=1, workers=4, exclusive=True
            )
        return len(results.values)

    threads = [start_in_thread(fill) for _ in range(2)]
    assert [thread.result(60) for thread in threads] == [20, 20]
    assert Counter(Counter(calls).values()) == {1: 20}


def test_locks_of_one_thread_outlast_those_of_another(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE.format("caption")
    other = "import sys; from pathlib import Path; from vlm4rec_search.common.cache.scheduler import KeyLocks; "
    other += "print(KeyLocks(Path(sys.argv[1])).acquire('a'))"
    command = [sys.executable, "-c", other, str(path)]
    with KeyLocks(path) as locks:
        assert locks.acquire("a")
        with KeyLocks(path) as more:
            assert (more.acquire("a"), more.acquire("b")) == (False, True)
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    with start_other_process(tmp_path, 600.0) as process, Cache(tmp_path) as cache:
        locks = KeyLocks(tmp_path / LOCK_FILE.format("caption"))
        assert (locks.acquire("a"), locks.acquire("b")) == (False, True)
        locks.release("b")
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        results = cache.get_or_compute("caption", "test@1", {"a": "a"}, lambda batch: [b"by us"], RAW, exclusive=True)
    assert results.values == {"a": b"by us"}


@pytest.mark.parametrize("retry", [False, True], ids=["run", "retry"])
def test_a_fresh_failure_of_another_process_is_not_tried_again(tmp_path: Path, retry: bool) -> None:
    def fail(batch: Sequence[str]) -> list[bytes | Failure]:
        return [Failure("failed", "no")]

    def compute(batch: Sequence[str]) -> list[bytes | Failure]:
        with Cache(tmp_path) as another:  # finishes the second key while the first is computed
            another.get_or_compute("caption", "test@1", {"b": "b"}, fail, RAW)
        return [b"by us"]

    policy = FillPolicy(retry_failed=retry)
    inputs = {"a": "a", "b": "b"}
    with Cache(tmp_path) as cache:
        if retry:
            cache.get_or_compute("caption", "test@1", {"b": "b"}, fail, RAW)
        results = cache.get_or_compute("caption", "test@1", inputs, compute, RAW, policy, batch_size=1, exclusive=True)
    assert results.values == {"a": b"by us"}
    assert results.failures == {"b": Failure("failed", "no")}
    assert (results.computed, results.failed, results.cached) == (1, 0, 0)
