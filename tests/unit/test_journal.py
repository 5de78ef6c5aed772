"""The journal of what was served: a page that is recorded twice, a file that is locked."""

import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.serve.journal import Journal, ServedPage


def page(item: str) -> ServedPage:
    return ServedPage([(item, 0.5)], "profile", "r1", "v1", "new", None, "a")


def test_a_new_file_that_is_locked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4rec_search.serve.journal._PATIENCE", 0.01)
    path = tmp_path / "served.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunError, match="database is locked"):
            Journal(path)


def test_a_page_is_recorded_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "served.sqlite")
    assert journal.record("1", 1, {"user": "u1"}, page("a"))
    assert not journal.record("1", 1, {"user": "u1"}, page("b"))
    served = journal.find("1")
    assert served is not None
    assert served.pages == [page("a")]


def test_old_recommendations_are_removed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4rec_search.serve.journal._BATCH", 2)
    journal, now = Journal(tmp_path / "served.sqlite"), time.time()
    with monkeypatch.context() as past:
        past.setattr(time, "time", lambda: now - 91 * 86_400)
        for number in range(5):
            journal.record(f"old {number}", 1, {"user": "u1"}, page("a"))
    journal.record("old 0", 2, {"user": "u1"}, page("b"))
    journal.record("new", 1, {"user": "u1"}, page("a"))
    assert journal.trim(math.inf, Event()) == 0
    assert journal.trim(90.0, Event()) == 6
    assert journal.find("old 0") is None
    assert journal.find("new") is not None
    with closing(sqlite3.connect(tmp_path / "served.sqlite")) as connection:
        assert connection.execute("SELECT recommendation_id FROM changes").fetchall() == [("new",)]
    journal.record("next", 1, {"user": "u1"}, page("a"))
    with closing(sqlite3.connect(tmp_path / "served.sqlite")) as connection:
        assert connection.execute("SELECT MAX(sequence) FROM changes").fetchone() == (8,), "numbers never fall"
