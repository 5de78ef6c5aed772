"""Several processes at one cache: nobody pays for what another process is at, or is through with."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.colour_catalogue import install_colour_captioner, read_calls, write_catalogue
from helpers.workspace import Workspace

from vlm4rec_search.common.cache.cache import CLAIMS, Cache, Claims
from vlm4rec_search.common.cache.policy import EarlierError, Effort

ITEMS = [(f"i{n:02}", (n, 100, 200), 0) for n in range(60)]
HOLDING = """
import sys, time
from pathlib import Path
from vlm4rec_search.common.cache.cache import Cache

def compute(positions):
    print("at work", flush=True)
    time.sleep(float(sys.argv[2]))
    return [b"by the other" for position in positions]

Cache(Path(sys.argv[1])).fill("caption", "test@1", ["a"], compute, paid=True)
"""
OPENING = """
import sys
from pathlib import Path
from vlm4rec_search.common.cache.cache import Cache

print("ready", flush=True)
for number in range(20):
    sys.stdin.readline()
    Cache(Path(sys.argv[1]) / str(number)).close()
"""


def other(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    """Start a process that computes key "a" for so many seconds, and wait until it is at it."""
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
    told = [opener.communicate(timeout=60)[1] for opener in openers]
    assert [opener.returncode for opener in openers] == [0] * 4, told


def test_two_runs_at_once_call_once_for_each_photo(workspace: Workspace) -> None:
    workspace.settings |= {"VLM4REC_CAPTIONER": "colour:30", **install_colour_captioner(workspace.folder)}
    write_catalogue(workspace.folder, *ITEMS)
    runs = [workspace.start("vlm4rec", "captions", "run", "--json") for _ in range(2)]
    told = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert Counter(Counter(read_calls(workspace.folder)).values()) == {1: 60}
    assert workspace.json("captions", "run")["statuses"] == {"ok": 60}
    rows = workspace.json("captions", "ledger")["rows"]
    assert sum(row["computed"] for row in rows) == 60


def test_what_another_process_is_at_is_waited_for_and_not_computed(tmp_path: Path) -> None:
    with other(tmp_path, 1.0), Cache(tmp_path) as cache:
        filled = cache.fill("caption", "test@1", ["a", "b"], lambda positions: [b"by us"] * len(positions), paid=True)
    assert filled.values == [b"by the other", b"by us"]
    assert (filled.computed, filled.cached) == (1, 1)
    with Cache(tmp_path) as cache:
        assert [(row.computed, row.cached) for row in cache.ledger()] == [(1, 0), (1, 1)]


def test_who_is_killed_holds_nothing(tmp_path: Path) -> None:
    with other(tmp_path, 600.0) as process, Cache(tmp_path) as cache:
        claims = Claims(tmp_path / CLAIMS.format("caption"))
        assert (claims.take("a"), claims.take("b")) == (False, True)
        claims.give("b")
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        filled = cache.fill("caption", "test@1", ["a"], lambda positions: [b"by us"], paid=True)
    assert filled.values == [b"by us"]


@pytest.mark.parametrize("retry", [False, True], ids=["run", "retry"])
def test_what_failed_elsewhere_meanwhile_is_not_tried_again(tmp_path: Path, retry: bool) -> None:
    def fails(positions: object) -> list[bytes | Exception]:
        return [ValueError("no")]

    def compute(positions: object) -> list[bytes | Exception]:
        with Cache(tmp_path) as another:  # finishes the second key while the first is computed
            another.fill("caption", "test@1", ["b"], fails)
        return [b"by us"]

    effort = Effort(failed=retry)
    with Cache(tmp_path) as cache:
        if retry:
            cache.fill("caption", "test@1", ["b"], fails)
        filled = cache.fill("caption", "test@1", ["a", "b"], compute, batch_size=1, paid=True, effort=effort)
    assert filled.values[0] == b"by us"
    assert isinstance(filled.values[1], EarlierError)
    assert (filled.computed, filled.failed, filled.cached) == (1, 0, 0)
