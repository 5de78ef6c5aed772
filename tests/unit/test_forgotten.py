"""`vlm4rec forget`: the list of the forgotten, the raw layer that honours it, and the files of a project."""

import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.macro_sql import DUCKDB, macros, run

from vlm4rec_search.common import erase
from vlm4rec_search.common.erase import erase_rows
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.datasets.forgotten import Forgotten, load_forgotten, save_forgotten
from vlm4rec_search.datasets.raw import broken_query, inspect, raw_query
from vlm4rec_search.pipeline.forget import forget


def test_the_list_names_nobody_and_finds_every_spelling(tmp_path: Path) -> None:
    path = tmp_path / "forgotten.json"
    save_forgotten(path, Forgotten().adding(["Anna ", "12"]))
    assert "Anna" not in path.read_text()
    found = load_forgotten(path)
    assert [user in found for user in ("Anna", " Anna", "12", "12.0", "anna", "120", None)] == [True] * 4 + [False] * 3
    assert found.adding(["12"]) == found
    assert found.adding(["13"]).version != found.version
    assert load_forgotten(tmp_path / "none.json") == Forgotten()


@pytest.mark.parametrize(
    "written", ["12.0", "0012.000", "1e+16", "1.2345678901234567e+17", "9.3e+18", "a.0", "1e+2", "12"]
)
def test_an_id_that_staging_makes_a_whole_number_is_forgotten(written: str) -> None:
    """Whether the id is given as the tables have it or as the file has it, which programs write as a float."""
    (staged,) = run(macros("cleaning").without_fraction(DUCKDB, "text", "TRUE"), [written])
    assert written in Forgotten().adding([staged])
    assert staged in Forgotten().adding([written])


def test_a_damaged_list_stops(tmp_path: Path) -> None:
    path = tmp_path / "forgotten.json"
    for text in ("", "[]", '{"salt": "a"}', '{"salt": "a", "shoppers": ["x"]}'):
        path.write_text(text)
        with pytest.raises(UsageError, match="VLM4REC_FORGOTTEN"):
            load_forgotten(path)
    with pytest.raises(UsageError, match="empty"):
        Forgotten().adding([" "])


def test_the_raw_layer_keeps_the_line_of_a_forgotten_record_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "items.csv").write_text("item_id,title\ni1,u1\n")
    (data / "interactions.csv").write_text(
        "user_id,item_id,timestamp\nu1,i1,2025\nu2,i1,2025\n u1 ,i1,2026\n,i1,2026\n"
    )
    settings = ExplicitSettings(project=None, data_dir=data, cache=tmp_path / "cache", forgotten=tmp_path / "list.json")
    before = inspect(data, "interactions", settings.cache)
    save_forgotten(settings.forgotten, Forgotten().adding(["u1"]))
    after = inspect(data, "interactions", settings.cache, forgotten=load_forgotten(settings.forgotten))
    assert (before.files[0].rows, after.files[0].rows, after.files[0].forgotten) == (4, 2, 2)
    assert before.version != after.version
    raw = raw_query(settings, None, "interactions", ["user_id", "item_id"]).sql(dialect="duckdb")
    rows = duckdb.sql(f"SELECT user_id, line FROM {raw} ORDER BY line").fetchall()
    assert rows == [("u2", 3), (None, 5)]
    broken = broken_query(settings, None).sql(dialect="duckdb")
    assert duckdb.sql(f"SELECT table_name, line, reason, record FROM {broken} ORDER BY line").fetchall() == [
        ("interactions", 2, "forgotten", ""),
        ("interactions", 4, "forgotten", ""),
    ]
    items = raw_query(settings, None, "items", ["item_id", "title"]).sql(dialect="duckdb")
    assert duckdb.sql(f"SELECT title FROM {items}").fetchall() == [("u1",)]


def project(folder: Path) -> ExplicitSettings:
    """Return the settings of a project whose files have rows of the shoppers SECRET and other."""
    users = pa.table({"user_id": ["SECRET", "other", "SECRET"], "rank": [1, 1, 2]})
    for name in ("recommendations.parquet", "export/served/A.PARQUET", "data/b.parquet", "served/events/day.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(users, folder / name)
    pq.write_table(pa.table({"item_id": ["SECRET"]}), folder / "items.parquet")
    with duckdb.connect(folder / "releases.duckdb") as connection:
        connection.execute("CREATE SCHEMA shown; CREATE TABLE shown.shoppers AS FROM users")
        connection.execute("COMMENT ON TABLE shown.shoppers IS 'a sample'; CREATE VIEW firsts AS FROM shown.shoppers")
        connection.execute("CREATE TABLE dead_letters AS SELECT unnest(['user', 'item']) AS kind, 'SECRET' AS id")
    judgments = [("", "lamp"), ("SECRET", ""), ("other", "a, b")]
    lines = [f'{user},"{query}",i1,1\n' for user, query in judgments]
    (folder / "served" / "judgments.csv").write_text("".join(["user_id,query,item_id,judgment\n", *lines]))
    with closing(sqlite3.connect(folder / "served" / "served.sqlite")) as journal:
        journal.execute("CREATE TABLE recommendations (recommendation_id, user_id, query)")
        rows = [("1", "SECRET", '{"user": "SECRET"}'), ("2", "other", "{}"), ("3", None, "{}")]
        journal.executemany("INSERT INTO recommendations VALUES (?, ?, ?)", rows)
        journal.commit()
    names = (
        "recommendations",
        "served",
        "releases",
        "results",
        "quality",
        "published",
        "cache",
        "warehouse",
        "data_dir",
    )
    places = {name: folder / name for name in names}
    places |= {"recommendations": folder / "recommendations.parquet", "releases": folder / "releases.duckdb"}
    places |= {"data_dir": folder / "data", "forgotten": folder / "forgotten.json"}
    return ExplicitSettings(project=folder, index_url=str(folder / "index"), **places)


def test_rows_leave_all_files_of_a_project(tmp_path: Path) -> None:
    settings = project(tmp_path)
    expected = {
        "recommendations.parquet": 2,
        "A.PARQUET": 2,
        "day.parquet": 2,
        "releases.duckdb": 3,
        "served.sqlite": 1,
        "judgments.csv": 1,
    }
    counted = forget(settings, ["SECRET"], dry_run=True)
    assert {Path(each.place).name: each.rows for each in counted.removals} == expected
    assert not settings.forgotten.exists()
    done = forget(settings, ["SECRET"])
    assert {Path(each.place).name: each.rows for each in done.removals} == expected
    assert (done.shoppers, done.added, done.problems) == (1, 1, [])
    left = [path for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    # DuckDB compresses texts; what it holds is asked for below.
    assert {path.name for path in left} <= {"b.parquet", "items.parquet", "releases.duckdb"}
    with duckdb.connect(tmp_path / "releases.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT user_id, rank FROM firsts").fetchall() == [("other", 1)]
        assert connection.execute("SELECT * FROM dead_letters").fetchall() == [("item", "SECRET")]
        comments = connection.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'shoppers'").fetchall()
        assert comments == [("a sample",)]
    assert pq.read_table(tmp_path / "export/served/A.PARQUET").to_pylist() == [{"user_id": "other", "rank": 1}]
    judgments = (tmp_path / "served" / "judgments.csv").read_text().splitlines()
    assert judgments == ["user_id,query,item_id,judgment", ',"lamp",i1,1', 'other,"a, b",i1,1']
    again = forget(settings, [])
    assert (again.removals, again.shoppers, again.added) == ([], 1, 0)
    assert {path.name for path in tmp_path.rglob(".*")} == {".lock", ".forgotten.json.lock"}


def test_what_was_interrupted_is_finished_by_the_next_call(tmp_path: Path) -> None:
    settings = project(tmp_path)
    with duckdb.connect(tmp_path / "releases.duckdb"):  # another process that writes it
        done = forget(settings, ["SECRET"])
    assert [Path(each.place).name for each in done.problems] == ["releases.duckdb"]
    assert json.loads(settings.forgotten.read_text())["shoppers"]
    done = forget(settings, [])
    assert [(Path(each.place).name, each.rows) for each in done.removals] == [("releases.duckdb", 3)]


def test_what_killed_processes_have_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    settings = project(tmp_path)
    old, young, others = (tmp_path / name for name in (f".{'0a' * 16}.part", f".{'0b' * 16}.part", ".mine.part"))
    folder = tmp_path / "export" / "served" / ".erasing-killed"
    folder.mkdir()
    for path in (old, young, others, folder / "a.duckdb"):
        path.touch()
    for path in (old, others, folder):
        os.utime(path, (0, 0))
    forget(settings, ["SECRET"], dry_run=True)
    assert old.exists()
    assert forget(settings, ["SECRET"]).problems == []
    assert [path.exists() for path in (old, folder, young, others)] == [False, False, True, True]


def test_nobody_on_the_list_and_a_damaged_file_are_said(tmp_path: Path) -> None:
    settings = project(tmp_path)
    with pytest.raises(UsageError, match="--user"):
        forget(settings, [])
    (tmp_path / "recommendations.parquet").write_text("none")
    with pytest.raises(RunError, match=r"recommendations\.parquet"):
        erase_rows(tmp_path / "recommendations.parquet", {"SECRET"})
    (tmp_path / "recommendations.parq").write_text("none")
    with pytest.raises(RunError, match=r"has to end with .*\.parquet"):
        erase_rows(tmp_path / "recommendations.parq", {"SECRET"})


def test_calls_at_once_lose_nobody(tmp_path: Path) -> None:
    settings = ExplicitSettings(
        project=None,
        index_url=str(tmp_path / "index"),
        **{name: tmp_path / name for name in ("forgotten", "cache", "served", "published", "quality", "warehouse")},
        **{name: tmp_path / name for name in ("recommendations", "releases", "results", "data_dir")},
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda user: forget(settings, [user]), [f"u{number}" for number in range(40)]))
    assert len(load_forgotten(settings.forgotten).hashes) == 40


def test_lines_that_a_full_disk_cut_hide_no_row(tmp_path: Path) -> None:
    path = tmp_path / "judgments.csv"
    header, torn, other = b"user_id,query,item_id\n", b'SECRET,"red la\nother,"r\xc3\n', b'other,"two\nlines, a",i1\n'
    path.write_bytes(header + other + torn + b'SECRET,"x, y",i1\n' + other + b'SECRET,"two\nlines",i1\nother,,i2\n')
    assert erase_rows(path, {"SECRET"}, dry_run=True) == 3
    assert erase_rows(path, {"SECRET"}) == 3
    assert path.read_bytes() == header + other + b'other,"r\xc3\n' + other + b"other,,i2\n"


def test_a_log_that_is_being_read_is_said_until_it_has_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "_PATIENCE", 0.05)
    monkeypatch.setattr(erase, "_CHUNK", 2)
    path = tmp_path / "events.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as service:
        service.execute("PRAGMA journal_mode = WAL")
        service.execute("CREATE TABLE events (user_id TEXT)")
        service.execute(
            "CREATE TABLE pages (id TEXT, page INTEGER, user_id TEXT, PRIMARY KEY (id, page)) WITHOUT ROWID"
        )
        users = ["SECRET", "other", None, "SECRET", "SECRET"]
        service.executemany("INSERT INTO events VALUES (?)", [(user,) for user in users])
        service.executemany("INSERT INTO pages VALUES ('a', ?, ?)", enumerate(users))
        service.execute("BEGIN")
        service.execute("SELECT COUNT(*) FROM events").fetchone()
        for _ in range(2):
            with pytest.raises(RunError, match="busy"):
                erase_rows(path, {"SECRET"})
        service.execute("COMMIT")
        assert erase_rows(path, {"SECRET"}) == 0
        assert service.execute("SELECT user_id FROM events").fetchall() == [("other",), (None,)]
        assert service.execute("SELECT page FROM pages").fetchall() == [(1,), (2,)]
        assert b"SECRET" not in path.read_bytes() + Path(f"{path}-wal").read_bytes()
