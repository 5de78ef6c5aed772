"""The cache of model calls: each result is computed once, kept per batch, and accounted for."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from vlm4rec_search.common.cache.cache import FILE, Cache, Result, result_key
from vlm4rec_search.common.errors import RunError

KILLED = """
import os, signal, sys
from pathlib import Path
from vlm4rec_search.common.cache.cache import Cache

def compute(positions):
    if positions[0] >= 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return [bytes([position]) for position in positions]

Cache(Path(sys.argv[1])).fill("caption", "test@1", [f"k{n}" for n in range(50)], compute, batch_size=10)
"""
TOGETHER = """
import sys
from pathlib import Path
from vlm4rec_search.common.cache.cache import Cache

first = int(sys.argv[2])
keys = [f"k{n}" for n in range(first, first + 200)]
compute = lambda positions: [keys[position].encode() for position in positions]
Cache(Path(sys.argv[1])).fill("sentence", f"test@{first}", keys, compute, batch_size=5)
"""


class Doubler:
    """Answers key "n" with the bytes of 2n, fails on "bad", and remembers the batches it was asked for."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys
        self.batches: list[list[int]] = []

    def __call__(self, positions: Sequence[int]) -> list[Result]:
        self.batches.append(list(positions))
        return [self._one(self.keys[position]) for position in positions]

    def _one(self, key: str) -> Result:
        return ValueError("no number") if key == "bad" else str(2 * int(key)).encode()


def test_result_key_is_sha256_of_a_json_list_and_unambiguous() -> None:
    assert result_key("a", "b") == hashlib.sha256(b'["a", "b"]').hexdigest()
    assert len({result_key("ab", "c"), result_key("a", "bc"), result_key("abc"), result_key('a", "bc')}) == 4


def test_each_distinct_key_is_computed_once_in_batches(tmp_path: Path) -> None:
    keys = ["1", "2", "1", "3", "2", "4", "5"]
    doubler = Doubler(keys)
    with Cache(tmp_path) as cache:
        filled = cache.fill("caption", "test@1", keys, doubler, batch_size=2)
    assert doubler.batches == [[0, 1], [3, 5], [6]]
    assert filled.values == [b"2", b"4", b"2", b"6", b"4", b"8", b"10"]
    assert (filled.computed, filled.cached, filled.failed) == (5, 0, 0)


def test_a_second_fill_computes_only_what_is_new(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.fill("caption", "test@1", ["1", "2"], Doubler(["1", "2"]))
    more = Doubler(["2", "7", "1"])
    with Cache(tmp_path) as cache:
        filled = cache.fill("caption", "test@1", more.keys, more)
    assert more.batches == [[1]]
    assert filled.values == [b"4", b"14", b"2"]
    assert (filled.computed, filled.cached, filled.failed) == (1, 2, 0)


def test_failures_are_returned_counted_and_tried_again(tmp_path: Path) -> None:
    keys = ["1", "bad"]
    with Cache(tmp_path) as cache:
        filled = cache.fill("caption", "test@1", keys, Doubler(keys))
        again = Doubler(keys)
        cache.fill("caption", "test@1", keys, again)
    assert filled.values[0] == b"2"
    assert str(filled.values[1]) == "no number"
    assert (filled.computed, filled.failed) == (1, 1)
    assert again.batches == [[1]]


def test_more_keys_than_one_read_takes(tmp_path: Path) -> None:
    keys = [str(number) for number in range(2500)]
    with Cache(tmp_path) as cache:
        cache.fill("caption", "test@1", keys, Doubler(keys), batch_size=1000)
        filled = cache.fill("caption", "test@1", keys, Doubler(keys))
    assert (filled.computed, filled.cached) == (0, 2500)
    assert filled.values[2499] == b"4998"


def test_ledger_has_one_row_for_each_recorded_fill(tmp_path: Path) -> None:
    keys = ["1", "2", "bad"]
    with Cache(tmp_path) as cache:
        cache.fill("caption", "a@1", keys, Doubler(keys))
        cache.fill("digest", "sha256", ["9"], Doubler(["9"]), recorded=False)
        cache.fill("sentence", "b@1", ["1", "2", "3"], Doubler(["1", "2", "3"]))
        rows = cache.ledger()
    assert [(row.run, row.kind, row.maker) for row in rows] == [(1, "caption", "a@1"), (2, "sentence", "b@1")]
    assert [(row.computed, row.cached, row.failed, row.finished) for row in rows] == [(2, 0, 1, True), (1, 2, 0, True)]
    assert all(row.seconds >= 0.0 and row.started_at.endswith("+00:00") for row in rows)


def test_a_killed_run_keeps_its_batches_and_the_next_computes_the_rest(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    keys = [f"k{number}" for number in range(50)]
    seen: list[int] = []

    def compute(positions: Sequence[int]) -> list[Result]:
        seen.extend(positions)
        return [bytes([position]) for position in positions]

    with Cache(tmp_path) as cache:
        filled = cache.fill("caption", "test@1", keys, compute, batch_size=10)
        rows = cache.ledger()
    assert seen == list(range(20, 50))
    assert filled.values == [bytes([number]) for number in range(50)]
    assert [(row.computed, row.cached, row.finished) for row in rows] == [(20, 0, False), (30, 20, True)]


def test_two_processes_fill_one_cache_at_once(tmp_path: Path) -> None:
    starts = [(0, 100), (100, 100)]  # keys 100 to 199 are wanted by both
    runs = [subprocess.Popen([sys.executable, "-c", TOGETHER, str(tmp_path), str(first)]) for first, _ in starts]
    assert [run.wait(60) for run in runs] == [0, 0]
    keys = [f"k{number}" for number in range(300)]
    with Cache(tmp_path) as cache:
        filled = cache.fill("sentence", "test", keys, Doubler([]))
        rows = cache.ledger()
    assert (filled.computed, filled.cached) == (0, 300)
    assert filled.values[299] == b"k299"
    assert [row.computed + row.cached for row in rows] == [200, 200, 300]


def test_a_damaged_cache_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    with pytest.raises(RunError, match=r"cache .* cannot be used \(file is not a database\): move it aside"):
        Cache(tmp_path)


def test_a_cache_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be used"):
        Cache(tmp_path / "file")


def test_a_maker_that_answers_too_little_is_refused(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache, pytest.raises(RunError, match="test@1 returned 0 results for a batch of 2"):
        cache.fill("caption", "test@1", ["1", "2"], lambda positions: [])


def test_a_ledger_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.fill("caption", "a@1", ["1"], Doubler(["1"]))
    with sqlite3.connect(tmp_path / FILE) as connection:
        for column in ("origin", "tokens_in", "tokens_out", "cost"):
            connection.execute(f"ALTER TABLE ledger DROP COLUMN {column}")
    with Cache(tmp_path) as cache:
        (row,) = cache.ledger()
    assert (row.computed, row.origin, row.tokens_in, row.cost) == (1, "plan", 0, 0.0)


def test_the_ledger_command_prints_rows(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.fill("caption", "a@1", ["1", "bad"], Doubler(["1", "bad"]))
    run = subprocess.run(
        [sys.executable, "-c", "from vlm4rec_search.cli.ledger import ledger; ledger()", "--json"],
        env=os.environ | {"VLM4REC_CACHE": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    (row,) = json.loads(run.stdout)["rows"]
    assert {name: row[name] for name in ("run", "kind", "captioner", "computed", "cached", "failed")} == {
        "run": 1, "kind": "caption", "captioner": "a@1", "computed": 1, "cached": 0, "failed": 1,
    }  # fmt: skip


def test_the_ledger_command_shows_an_example() -> None:
    from vlm4rec_search.cli.ledger import ledger

    assert "Example: vlm4rec ledger --json" in CliRunner().invoke(ledger, ["--help"]).output
