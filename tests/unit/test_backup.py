"""Backup and restore: every file comes back as it was, and none is overwritten without a word."""

import json
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result
from helpers.largest_file import largest_file

from vlm4rec_search.cli import main
from vlm4rec_search.common.cache import RAW, Cache, FillPolicy
from vlm4rec_search.common.settings import settings
from vlm4rec_search.datasets.events.compaction import compact
from vlm4rec_search.datasets.events.event import parse_event
from vlm4rec_search.datasets.events.log import EventLog
from vlm4rec_search.datasets.forgotten import Forgotten, load_forgotten, save_forgotten
from vlm4rec_search.pipeline import backup

PHOTO = Path("photos") / "ab" / ("ab" * 32)


def run(*arguments: str) -> Result:
    settings.cache_clear()
    return CliRunner().invoke(main, arguments)


def results(folder: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(folder / "cache" / "results.sqlite")) as database:
        return dict(database.execute("SELECT key, value FROM results"))


def pay(folder: Path, key: str) -> None:
    """Store the result of a model call."""
    with Cache(folder / "cache") as cache:
        policy = FillPolicy()
        cache.get_or_compute("caption", "vlm@1", {key: key}, lambda keys: [k.encode() for k in keys], RAW, policy)


def tables(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file of each kind that a backup has."""
    for name, value in (
        ("CACHE", "cache"),
        ("RELEASES", "releases.duckdb"),
        ("RESULTS", "results.duckdb"),
        ("CAPTION_EDITS", "edits.csv"),
        ("QUALITY", "quality"),
        ("SERVED", "served"),
        ("PROJECT", ""),
    ):
        monkeypatch.setenv(f"VLM4REC_{name}", value)
    monkeypatch.chdir(tmp_path)
    pay(tmp_path, "red bag")
    (tmp_path / "cache" / PHOTO).parent.mkdir(parents=True)
    (tmp_path / "cache" / PHOTO).write_bytes(b"jpeg")
    (tmp_path / "quality").mkdir()
    for path in ("releases.duckdb", "results.duckdb", "quality/checks.duckdb"):
        with duckdb.connect(path) as connection:
            connection.execute("CREATE TABLE runs (name VARCHAR PRIMARY KEY)")
            connection.execute("INSERT INTO runs VALUES (?)", [path])
    (tmp_path / "edits.csv").write_text("item_id,caption\n1,ours\n")
    return tmp_path


def move_to_new_folder(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (shop / "new").mkdir()
    monkeypatch.chdir(shop / "new")
    return shop / "new"


def test_a_new_folder_gets_every_file_back(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads(run("backup", "shop.zip", "--json").output)
    assert list(report["files"]) == [
        "results.sqlite", "releases.duckdb", "checks.duckdb", "evaluations.duckdb", "caption_edits.csv",
        PHOTO.as_posix(),
    ]  # fmt: skip
    new = move_to_new_folder(shop, monkeypatch)
    result = run("restore", "../shop.zip")
    assert (result.exit_code, "Restored 6 files" in result.output) == (0, True)
    assert results(new) == results(shop) != {}
    for path in ("releases.duckdb", "results.duckdb", "quality/checks.duckdb"):
        with duckdb.connect(path, read_only=True) as connection:
            assert connection.execute("FROM runs").fetchall() == [(path,)]
    for path in ("edits.csv", f"cache/{PHOTO}"):
        assert (new / path).read_bytes() == (shop / path).read_bytes()


def test_a_backup_during_a_run_has_what_the_run_has_committed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cache(shop / "cache"), closing(sqlite3.connect(shop / "cache" / "results.sqlite")) as writer:
        writer.execute("INSERT INTO results VALUES ('committed', 'caption', 'vlm@1', 'x')")
        writer.commit()
        writer.execute("INSERT INTO results VALUES ('open', 'caption', 'vlm@1', 'x')")
        assert run("backup", "shop.zip").exit_code == 0
    new = move_to_new_folder(shop, monkeypatch)
    run("restore", "../shop.zip")
    assert {"committed", "open"} & results(new).keys() == {"committed"}


def test_a_restore_overwrites_only_when_told(shop: Path) -> None:
    run("backup", "shop.zip")
    pay(shop, "later")
    (shop / "releases.duckdb").unlink()
    refused = run("restore", "shop.zip")
    assert (refused.exit_code, "results.sqlite exists" in refused.output) == (2, True)
    assert (len(results(shop)), (shop / "releases.duckdb").exists()) == (2, False)
    assert run("restore", "shop.zip", "--force").exit_code == 0
    assert (len(results(shop)), (shop / "releases.duckdb").exists()) == (1, True)


@pytest.mark.parametrize("damage", [b"no database at all", bytes(8192)])
@pytest.mark.parametrize("name", ["cache/results.sqlite", "served/served.sqlite", "served/events.sqlite"])
def test_a_damaged_database_is_replaced_when_told(shop: Path, name: str, damage: bytes) -> None:
    (shop / "served").mkdir()
    for file in ("served.sqlite", "events.sqlite"):
        with closing(sqlite3.connect(shop / "served" / file)) as database:
            database.execute("CREATE TABLE rows (number)")
    run("backup", "shop.zip")
    before = tables(shop / name)
    (shop / name).write_bytes(damage)
    for log in ("-wal", "-shm", "-journal"):
        (shop / f"{name}{log}").write_bytes(b"of the damaged file")
    refused = run("backup", "other.zip")
    assert (refused.exit_code, "move it away if it is damaged" in refused.output) == (1, True), refused.output
    restored = run("restore", "shop.zip", "--force")
    assert restored.exit_code == 0, restored.output
    assert tables(shop / name) == before != []


def test_a_backup_has_no_damaged_pages(shop: Path) -> None:
    pay(shop, "long text " * 10_000)
    with closing(sqlite3.connect(shop / "cache" / "results.sqlite")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'results'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with (shop / "cache" / "results.sqlite").open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xab" * size)
    refused = run("backup", "shop.zip")
    assert (refused.exit_code, "results.sqlite cannot be copied" in refused.output) == (1, True), refused.output
    assert "take it from an earlier backup" in refused.output
    assert not (shop / "shop.zip").exists()


def test_a_database_that_others_have_open_is_replaced_under_them(shop: Path) -> None:
    run("backup", "shop.zip")
    with closing(sqlite3.connect(shop / "cache" / "results.sqlite")) as reader:
        reader.execute("DELETE FROM results")
        reader.commit()
        assert run("restore", "shop.zip", "--force").exit_code == 0
        assert reader.execute("SELECT COUNT(*) FROM results").fetchall() == [(1,)]


def test_a_backup_is_overwritten_only_when_told(shop: Path) -> None:
    (shop / "shop.zip").write_text("ours")
    refused = run("backup", "shop.zip")
    assert (refused.exit_code, "--force" in refused.output) == (2, True)
    assert (shop / "shop.zip").read_text() == "ours"
    assert run("backup", "shop.zip", "--force").exit_code == 0
    assert zipfile.is_zipfile(shop / "shop.zip")


def test_a_folder_with_nothing_to_back_up_is_an_error(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move_to_new_folder(shop, monkeypatch)
    result = run("backup", "shop.zip")
    assert (result.exit_code, "nothing to back up" in result.output) == (2, True)
    assert list(Path().iterdir()) == []


def test_a_damaged_backup_restores_nothing(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("backup", "shop.zip")
    content = bytearray((shop / "shop.zip").read_bytes())
    with zipfile.ZipFile(shop / "shop.zip") as archive:
        entry = archive.getinfo("caption_edits.csv")
    content[entry.header_offset + 30 + len(entry.filename) + 2] ^= 0xFF
    (shop / "shop.zip").write_bytes(content)
    new = move_to_new_folder(shop, monkeypatch)
    result = run("restore", "../shop.zip")
    assert (result.exit_code, "is damaged" in result.output) == (1, True), result.output
    assert [path.name for path in new.rglob("*")] == ["cache"]


def write_archive(path: Path, contents: object, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("backup.json", json.dumps(contents))
        for name in names:
            archive.writestr(name, "x")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["../evil"], "does not know"),
        (["photos/../../../evil"], "does not know"),
        (["unheard.sqlite"], "does not know"),
        ("none", "is no backup"),
        (["releases.duckdb"], "is no backup"),
    ],
)
def test_a_foreign_archive_is_refused(shop: Path, monkeypatch: pytest.MonkeyPatch, files: object, message: str) -> None:
    write_archive(shop / "other.zip", {"version": "1", "created_at": "", "files": files})
    new = move_to_new_folder(shop, monkeypatch)
    result = run("restore", "../other.zip")
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert [path.name for path in new.rglob("*")] == ["cache"]


def test_a_file_that_cannot_be_copied_is_named(shop: Path) -> None:
    (shop / "releases.duckdb").write_text("no database at all")
    result = run("backup", "shop.zip")
    assert (result.exit_code, "releases.duckdb cannot be copied" in result.output) == (1, True)
    assert not (shop / "shop.zip").exists()


@pytest.mark.parametrize("name", ["cache/results.sqlite", "releases.duckdb"])
def test_a_disk_without_room_is_told_and_leaves_no_backup(shop: Path, name: str) -> None:
    """On such a disk DuckDB leaves the rows in its log, and the copy without them."""
    if name.endswith(".duckdb"):
        shutil.rmtree(shop / "cache")
    with largest_file(14_000):  # less than the results; the rows of the log of DuckDB have room
        result = run("backup", "shop.zip")
    assert (result.exit_code, f"{name} cannot be copied" in result.output) == (1, True), result.output
    assert "make room if the disk is full" in result.output
    assert not (shop / "shop.zip").exists()


def test_events_come_back_from_the_log_and_from_the_files_of_days(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(shop / "served" / "events.sqlite")
    sent = [{"event_id": name, "action_name": "click", "timestamp": "2025-01-31", "user_id": "u"} for name in "12"]
    log.record([parse_event(sent[0])], as_happened=True)
    compact(log.path, shop / "served" / "events")
    log.record([parse_event(sent[1])])
    assert "events/others/2025-01-31.parquet" in json.loads(run("backup", "shop.zip", "--json").output)["files"]
    new = move_to_new_folder(shop, monkeypatch)
    assert run("restore", "../shop.zip").exit_code == 0
    restored = EventLog(new / "served" / "events.sqlite")
    assert restored.record([parse_event(each) for each in sent]) == 0
    assert compact(restored.path, new / "served" / "events") == 1


def test_events_that_move_during_a_backup_are_in_it(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, copyfile = EventLog(shop / "served" / "events.sqlite"), shutil.copyfile
    sent = {"event_id": "1", "action_name": "click", "timestamp": "2025-01-31", "user_id": "u"}
    log.record([parse_event(sent)], as_happened=True)

    def compact_first(source: Path, target: Path) -> None:
        compact(log.path, shop / "served" / "events")
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", compact_first)
    assert run("backup", "shop.zip").exit_code == 0
    assert log.waiting(log.newest_waiting()) == []
    new = move_to_new_folder(shop, monkeypatch)
    assert run("restore", "../shop.zip").exit_code == 0
    restored = EventLog(new / "served" / "events.sqlite")
    assert len(restored.waiting(restored.newest_waiting())) == 1


def test_a_restore_forgets_whom_either_list_forgets(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("forgotten.json")
    first = Forgotten().adding(["u1"])
    save_forgotten(path, first.adding(["u2"]))
    assert run("backup", "shop.zip").exit_code == 0
    save_forgotten(path, first.adding(["u3"]))
    restored = run("restore", "shop.zip", "--force")
    assert "Next: vlm4rec forget && sqlmesh plan" in restored.output
    assert [user in load_forgotten(path) for user in ("u1", "u2", "u3", "u4")] == [True, True, True, False]
    folder = move_to_new_folder(shop, monkeypatch)
    save_forgotten(folder / path, first)
    assert run("restore", "../shop.zip").exit_code == 0  # not in the way, so that nobody moves it away
    assert "u2" in load_forgotten(folder / path)
    shutil.rmtree(folder)
    folder = move_to_new_folder(shop, monkeypatch)
    assert run("restore", "../shop.zip").exit_code == 0
    assert load_forgotten(folder / path) == first.adding(["u2"])


def test_a_damaged_list_of_forgotten_shoppers_is_not_backed_up(shop: Path) -> None:
    Path("forgotten.json").write_text('{"salt": "a"')
    refused = run("backup", "shop.zip")
    assert (refused.exit_code, "forgotten.json cannot be read" in refused.output) == (2, True), refused.output
    assert "put the forgotten.json of a backup, which is a zip file, in its place" in refused.output
    assert not (shop / "shop.zip").exists()


def test_a_backup_with_a_damaged_list_of_forgotten_shoppers_needs_another_list(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_forgotten(Path("forgotten.json"), Forgotten().adding(["u1"]))
    monkeypatch.setattr(backup, "_copy_forgotten", lambda _source, target: target.write_text("{"))
    assert run("backup", "shop.zip").exit_code == 0
    folder = move_to_new_folder(shop, monkeypatch)
    refused = run("restore", "../shop.zip")
    assert (refused.exit_code, "is damaged, and without it they would come back" in refused.output) == (2, True)
    assert not (folder / "cache" / "results.sqlite").exists()
    assert run("forget", "--user", "u2").exit_code == 0  # as the message says
    restored = run("restore", "../shop.zip")
    assert (restored.exit_code, "damaged and left out" in restored.output) == (0, True), restored.output
    assert results(folder) == results(shop) != {}
    assert [user in load_forgotten(folder / "forgotten.json") for user in ("u1", "u2")] == [False, True]


def test_lists_of_forgotten_shoppers_that_began_apart_stop_a_restore(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_forgotten(Path("forgotten.json"), Forgotten().adding(["u1"]))
    assert run("backup", "shop.zip").exit_code == 0
    folder = move_to_new_folder(shop, monkeypatch)
    save_forgotten(folder / "forgotten.json", Forgotten().adding(["u2"]))
    before = (folder / "forgotten.json").read_bytes()
    restored = run("restore", "../shop.zip", "--force")
    assert (restored.exit_code, "vlm4rec forget --user ID" in restored.output) == (2, True), restored.output
    assert (folder / "forgotten.json").read_bytes() == before
    assert not (folder / "cache" / "results.sqlite").exists()
