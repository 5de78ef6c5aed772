"""The cache of model calls: each result is computed once, committed with its batch, and counted in the ledger."""

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

from vlm4rec_search.cli import main
from vlm4rec_search.common.cache import FILE, RAW, Cache, Codec, Failure, FillPolicy, result_key
from vlm4rec_search.common.errors import RunError

KILLED = """
import os, signal, sys
from pathlib import Path
from vlm4rec_search.common.cache import RAW, Cache

def compute(numbers):
    if numbers[0] >= 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return [bytes([number]) for number in numbers]

inputs = {f"k{n}": n for n in range(50)}
Cache(Path(sys.argv[1])).get_or_compute("caption", "test@1", inputs, compute, RAW, batch_size=10)
"""
TOGETHER = """
import sys
from pathlib import Path
from vlm4rec_search.common.cache import RAW, Cache

first = int(sys.argv[2])
inputs = {f"k{n}": f"k{n}" for n in range(first, first + 200)}
compute = lambda texts: [text.encode() for text in texts]
Cache(Path(sys.argv[1])).get_or_compute("sentence", f"test@{first}", inputs, compute, RAW, batch_size=5)
"""


INTEGER: Codec[int] = Codec(lambda number: str(number).encode(), int)


class Doubler:
    """Doubles numbers in texts, fails on "bad", and records its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[int | Failure]:
        self.batches.append(list(texts))
        return [Failure.from_error(ValueError("no number")) if text == "bad" else 2 * int(text) for text in texts]


def by_key(*texts: str) -> dict[str, str]:
    """Return inputs under the key "key of <input>"."""
    return {f"key of {text}": text for text in texts}


def test_result_key_is_the_sha256_of_a_json_list() -> None:
    assert result_key("a", "b") == hashlib.sha256(b'["a", "b"]').hexdigest()
    assert len({result_key("ab", "c"), result_key("a", "bc"), result_key("abc"), result_key('a", "bc')}) == 4


def test_missing_results_are_computed_in_batches(tmp_path: Path) -> None:
    doubler = Doubler()
    with Cache(tmp_path) as cache:
        results = cache.get_or_compute(
            "caption", "test@1", by_key("1", "2", "1", "3", "2", "4", "5"), doubler, INTEGER, batch_size=2
        )
    assert doubler.batches == [["1", "2"], ["3", "4"], ["5"]]
    assert results.values == {"key of 1": 2, "key of 2": 4, "key of 3": 6, "key of 4": 8, "key of 5": 10}
    assert results.failures == {}
    assert (results.computed, results.cached, results.failed, results.left) == (5, 0, 0, 0)


def test_a_second_run_computes_only_new_keys(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.get_or_compute("caption", "test@1", by_key("1", "2"), Doubler(), INTEGER)
    doubler = Doubler()
    with Cache(tmp_path) as cache:
        results = cache.get_or_compute("caption", "test@1", by_key("2", "7", "1"), doubler, INTEGER)
    assert doubler.batches == [["7"]]
    assert results.values == {"key of 2": 4, "key of 7": 14, "key of 1": 2}
    assert (results.computed, results.cached, results.failed) == (1, 2, 0)


def test_failures_are_returned_counted_and_tried_again(tmp_path: Path) -> None:
    inputs = by_key("1", "bad")
    with Cache(tmp_path) as cache:
        results = cache.get_or_compute("caption", "test@1", inputs, Doubler(), INTEGER)
        shown = cache.get_or_compute("caption", "test@1", inputs, Doubler(), INTEGER, FillPolicy(retry_failed=False))
        again = Doubler()
        cache.get_or_compute("caption", "test@1", inputs, again, INTEGER)
    assert results.values == {"key of 1": 2}
    assert results.failures == {"key of bad": Failure("failed", "ValueError: no number")}
    assert (results.computed, results.failed) == (1, 1)
    assert (shown.values, shown.failures, shown.failed) == (results.values, results.failures, 0)
    assert again.batches == [["bad"]]


def test_a_failed_call_does_not_replace_a_stored_result(tmp_path: Path) -> None:
    fail = [Failure("refused", "no", "the answer")]
    with Cache(tmp_path) as cache:
        cache.get_or_compute("caption", "test@1", {"k": "1"}, Doubler(), INTEGER)
        policy = FillPolicy(recompute={"k"})
        again = cache.get_or_compute("caption", "test@1", {"k": "1"}, lambda batch: fail, INTEGER, policy)
        later = cache.get_or_compute("caption", "test@1", {"k": "1"}, lambda batch: fail, INTEGER)
    assert (again.values, again.failures, again.failed) == ({"k": 2}, {}, 1)
    assert (later.values, later.failures, later.cached) == ({"k": 2}, {}, 1)


def test_keys_beyond_the_limit_have_neither_value_nor_failure(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        results = cache.get_or_compute("caption", "a@1", by_key("1", "2"), Doubler(), INTEGER, FillPolicy(limit=1))
        read = cache.get_or_compute("caption", "a@1", by_key("1", "2"), Doubler(), INTEGER, FillPolicy(limit=0))
        rows = cache.ledger()
    assert (results.values, results.failures, results.left) == ({"key of 1": 2}, {}, 0)
    assert (read.values, read.failures, read.cached) == ({"key of 1": 2}, {}, 1)
    assert len(rows) == 1, "a run that only reads has no row in the ledger"


def test_a_cache_that_is_only_read_waits_for_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4rec_search.common.cache.store._WRITE_TIMEOUT", 0.1)
    with Cache(tmp_path) as cache, sqlite3.connect(tmp_path / FILE, isolation_level=None) as writer:
        cache.get_or_compute("caption", "a@1", by_key("1"), Doubler(), INTEGER)
        writer.execute("BEGIN IMMEDIATE")
        read = cache.get_or_compute("caption", "a@1", by_key("1", "2"), Doubler(), INTEGER, FillPolicy(limit=0))
        writer.execute("ROLLBACK")
    assert read.values == {"key of 1": 2}


def test_more_keys_than_one_read_takes(tmp_path: Path) -> None:
    inputs = by_key(*(str(number) for number in range(2500)))
    with Cache(tmp_path) as cache:
        cache.get_or_compute("caption", "test@1", inputs, Doubler(), INTEGER, batch_size=1000)
        results = cache.get_or_compute("caption", "test@1", inputs, Doubler(), INTEGER)
    assert (results.computed, results.cached) == (0, 2500)
    assert results.values["key of 2499"] == 4998


def test_ledger_has_one_row_for_each_recorded_run(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.get_or_compute("caption", "a@1", {"1": "1", "2": "2", "bad": "bad"}, Doubler(), INTEGER)
        cache.get_or_compute("digest", "sha256", {"9": "9"}, Doubler(), INTEGER, recorded=False)
        cache.get_or_compute("sentence", "b@1", {"1": "1", "2": "2", "3": "3"}, Doubler(), INTEGER)
        rows = cache.ledger()
    assert [(row.run, row.kind, row.producer) for row in rows] == [(1, "caption", "a@1"), (2, "sentence", "b@1")]
    assert [(row.computed, row.cached, row.failed, row.finished) for row in rows] == [(2, 0, 1, True), (1, 2, 0, True)]
    assert all(row.seconds >= 0.0 and row.started_at.endswith("+00:00") for row in rows)


def test_a_killed_run_keeps_its_batches_and_the_next_run_computes_the_rest(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    computed: list[int] = []

    def compute(numbers: Sequence[int]) -> list[bytes]:
        computed.extend(numbers)
        return [bytes([number]) for number in numbers]

    with Cache(tmp_path) as cache:
        inputs = {f"k{number}": number for number in range(50)}
        results = cache.get_or_compute("caption", "test@1", inputs, compute, RAW, batch_size=10)
        rows = cache.ledger()
    assert computed == list(range(20, 50))
    assert results.values == {f"k{number}": bytes([number]) for number in range(50)}
    assert [(row.computed, row.cached, row.finished) for row in rows] == [(20, 0, False), (30, 20, True)]


def test_two_processes_use_one_cache_at_once(tmp_path: Path) -> None:
    starts = [(0, 100), (100, 100)]  # both processes need the keys 100 to 199
    runs = [subprocess.Popen([sys.executable, "-c", TOGETHER, str(tmp_path), str(first)]) for first, _ in starts]
    assert [run.wait(60) for run in runs] == [0, 0]
    inputs = {f"k{number}": number for number in range(300)}
    with Cache(tmp_path) as cache:
        results = cache.get_or_compute("sentence", "test", inputs, lambda batch: [], RAW)
        rows = cache.ledger()
    assert (results.computed, results.cached) == (0, 300)
    assert results.values["k299"] == b"k299"
    assert [row.computed + row.cached for row in rows] == [200, 200, 300]


def test_a_damaged_cache_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    with pytest.raises(RunError, match=r"cache .* cannot be used \(file is not a database\): move it aside"):
        Cache(tmp_path)


def test_a_cache_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be used"):
        Cache(tmp_path / "file")


def test_a_producer_with_too_few_results_is_refused(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache, pytest.raises(RunError, match="test@1 returned 0 results for a batch of 2"):
        cache.get_or_compute("caption", "test@1", by_key("1", "2"), lambda batch: [], RAW)


def test_the_ledger_command_prints_rows(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.get_or_compute("caption", "a@1", by_key("1", "bad"), Doubler(), INTEGER)
    run = subprocess.run(
        [sys.executable, "-c", "from vlm4rec_search.cli.ledger import ledger; ledger()", "--json"],
        env=os.environ | {"VLM4REC_CACHE": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    (row,) = json.loads(run.stdout)["rows"]
    expected = {"run": 1, "kind": "caption", "captioner": "a@1", "computed": 1, "cached": 0, "failed": 1}
    assert row | expected == row


def test_the_ledger_command_shows_an_example() -> None:
    assert "Example: vlm4rec ledger --json" in CliRunner().invoke(main, ["ledger", "--help"]).output
