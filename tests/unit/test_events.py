"""Events: their shape, the log that keeps each id once, and the Parquet files of the days."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from helpers.macro_sql import macros

from vlm4rec_search.common.erase import erase_rows
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.datasets.declarations import load_declarations
from vlm4rec_search.datasets.events.compaction import INTERACTIONS, OTHERS, compact, event_files
from vlm4rec_search.datasets.events.event import WrongEventError, kind_of, meaning, parse_event
from vlm4rec_search.datasets.events.log import EventLog, Recent
from vlm4rec_search.datasets.importers.ubi import EventSummary, import_events
from vlm4rec_search.datasets.raw import inspect
from vlm4rec_search.pipeline.served_log import create_served_tables

NOW = datetime.now(UTC)


def event(name: str, action: str = "click", item: str | int | None = "a", **more: Any) -> dict[str, Any]:
    attributes = {} if item is None else {"object": {"object_id": item}, "position": {"ordinal": 3}}
    given = {"event_id": name, "action_name": action, "timestamp": NOW.isoformat(), "user_id": "u1"}
    return {**given, "event_attributes": attributes, **more}


def keep(log: EventLog, *events: dict[str, Any]) -> int:
    return log.record([parse_event(each) for each in events])


def rows(folder: Path, kind: str) -> list[tuple[Any, ...]]:
    names = [str(path) for path in event_files(folder, kind)]
    columns = "event_id, event_type, user_id, item_id, position, query_id"
    return duckdb.read_parquet(names).project(columns).order("event_id").fetchall() if names else []


def test_the_shape_is_that_of_ubi_and_nothing_of_an_event_is_lost() -> None:
    sent = event("1", item=42, application="app", user_id=None, client_id=" c\u200b1 ", timestamp="2025-01-31T12:00:00")
    parsed, content = parse_event(sent)
    assert (parsed.shopper, parsed.item_id, parsed.happened_at) == ("c1", "42", datetime(2025, 1, 31, 12, tzinfo=UTC))
    assert '"application": "app"' in content
    assert parse_event({**sent, "event_attributes": None})[0].item_id is None
    without_id = {key: value for key, value in sent.items() if key != "event_id"}
    again, _ = parse_event(dict(reversed(without_id.items())))
    assert again.event_id == parse_event(without_id)[0].event_id != parse_event({**without_id, "x": 1})[0].event_id


WRONG: dict[str, tuple[Any, str]] = {
    "no object": ([], "an event is an object"),
    "no action": ({"timestamp": "2025-01-01T00:00:00Z", "user_id": "u"}, "action_name: Field required"),
    "nobody": (event("1", user_id=None), "give a user_id, or a client_id"),
    "no time": (event("1", timestamp="yesterday"), "timestamp: Input should be a valid datetime"),
    "a number as time": (event("1", timestamp=1_700_000_000), "timestamp: write the time as ISO 8601"),
    "later": (event("1", timestamp=(NOW + timedelta(days=2)).isoformat()), "the timestamp is in the future"),
    "no item": (event("1", item="\u200b"), "the object_id is empty"),
    "a place": (event("1", event_attributes={"position": {"ordinal": -1}}), "event_attributes.position.ordinal"),
    "not a number": (event("1", note=float("nan")), "it cannot be written as JSON"),
    "long": (event("1", note="x" * 20_000), "send at most 10,000"),
    "a surrogate": (event("1", note="\ud800"), "it cannot be written as JSON"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_event_says_what_is_wrong(case: str) -> None:
    content, message = WRONG[case]
    with pytest.raises(WrongEventError) as error:
        parse_event(content)
    assert message in str(error.value)


def test_the_words_for_kinds_of_events_are_those_of_a_plan() -> None:
    for word, name in macros("events").NAMES.items():
        assert kind_of(word) == name, word
    meant = {"impression": "shown", "remove": "seen", "hide": "against", "dislike": "against", "return": "against"}
    assert {kind: meaning(kind) for kind in ("view", "cart", *meant)} == {"view": "for", "cart": "for", **meant}
    assert meaning("notInterested") == meaning("Not interested") == "against"


def test_words_that_the_shop_declares_come_first(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(
        "values: {events: {Nicht interessant: hide, Gesehen: impression, Kauf: buy, view: impression}}"
    )
    declared = load_declarations(tmp_path).values.events
    settings = ExplicitSettings(data_dir=tmp_path, served=tmp_path / "served")
    log = EventLog(settings.events_file, declared)
    keep(log, event("1", "Nicht interessant", "a"), event("2", "gesehen", "b"), event("3", "Kauf", "c", query_id="q"))
    keep(log, event("4", "view", "d"))
    assert log.recent("u1", None, None) == Recent(("c",), ("a",), ())
    with duckdb.connect() as connection:
        create_served_tables(connection, settings)
        kinds = connection.sql("SELECT kind FROM served.events ORDER BY event_id").fetchall()
        bought = connection.sql("SELECT item_id, was_bought FROM served.outcomes").fetchall()
    assert kinds == [("hide",), ("impression",), ("purchase",), ("impression",)]
    assert bought == [("c", True)]
    assert [row[0] for row in rows(settings.events_folder, INTERACTIONS)] == ["1", "3"]


def test_a_word_for_nothing_is_no_shopper() -> None:
    sent = event("1", user_id="undefined", client_id="c1")
    assert parse_event(sent)[0].shopper == "c1"
    assert parse_event({**sent, "user_id": "0"}, ("0",))[0].shopper == "c1"
    assert parse_event(sent, ("0",))[0].shopper == "undefined"
    with pytest.raises(WrongEventError, match="give a user_id, or a client_id"):
        parse_event({**sent, "client_id": "null\u200b"})


def test_an_id_is_kept_once_also_after_it_went_into_a_file(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    assert keep(log, event("1"), event("2", "impression"), event("1", item="b")) == 2
    assert compact(log.path, tmp_path / "events") == 2
    assert keep(log, event("1"), event("3", "login", None)) == 1
    assert compact(log.path, tmp_path / "events") == 1
    assert compact(log.path, tmp_path / "events") == 0
    assert rows(tmp_path / "events", INTERACTIONS) == [("1", "click", "u1", "a", 3, None)]
    assert [row[:2] for row in rows(tmp_path / "events", OTHERS)] == [("2", "impression"), ("3", "login")]


def test_a_crash_between_file_and_note_doubles_nothing(tmp_path: Path) -> None:
    log, before = EventLog(tmp_path / "events.sqlite"), tmp_path / "before"
    keep(log, event("1"), event("2"))
    shutil.copytree(tmp_path, before)
    compact(log.path, tmp_path / "events")
    shutil.copytree(tmp_path / "events", before / "events")
    again = EventLog(before / "events.sqlite")  # the files are written, and the log does not know
    keep(again, event("3"))
    assert compact(again.path, before / "events") == 3
    assert [row[0] for row in rows(before / "events", INTERACTIONS)] == ["1", "2", "3"]


def test_events_count_until_a_release_has_them(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    keep(log, event("1", "add_to_cart"), event("2", "hide", "b"), event("3", "impression", "c"), event("4", item="d"))
    keep(log, event("5", "remove_from_cart", "d"), event("6", item="e", user_id="u2"))
    earlier, later = (NOW.replace(tzinfo=None) + timedelta(days=days) for days in (-1, 1))
    expected = Recent(("a",), ("b",), ("d",))
    assert log.recent("u1", None, later) == expected
    assert log.recent("u1", later, earlier) == expected, "received after what its tables have"
    assert log.recent("u1", later, None) == expected, "its tables have no events"
    assert log.recent("u1", earlier, later) == expected, "after the moment of its tables"
    assert log.recent("u1", later, later) == expected, "no plan has read them"
    compact(log.path, tmp_path / "events")
    assert log.recent("u1", later, later) == Recent()
    assert log.recent("u1", later, earlier) == expected, "other commands than a plan move events, too"
    assert log.recent("u1", None, later) == expected, "a plan is not a release"
    keep(log, event("7", "click", "b"))
    assert log.recent("u1", None, later) == Recent(("b", "a"), (), ("d",))


def test_the_newest_event_that_a_release_has_is_known_and_the_next_one_is_not(tmp_path: Path) -> None:
    log, folder, later = EventLog(tmp_path / "events.sqlite"), tmp_path / "events", NOW.replace(tzinfo=None)
    keep(log, event("1"), event("2", item="b"))
    compact(log.path, folder)
    names = [str(path) for path in event_files(folder, INTERACTIONS)]
    (until,) = duckdb.read_parquet(names).max("received").fetchall()[0]
    keep(log, event("3", "impression", "b"), event("4", "login", None))
    assert (log.recent("u1", later, until), log.oldest_after(until)) == (Recent(), None)
    keep(log, event("5", "hide", "a"))
    compact(log.path, folder)
    assert log.recent("u1", later, until) == Recent((), ("a",), ())
    oldest = log.oldest_after(until)
    assert oldest is not None and oldest > until.replace(tzinfo=UTC).timestamp()


def test_raw_reads_events_behind_the_log_of_the_shop(tmp_path: Path) -> None:
    log, data = EventLog(tmp_path / "events.sqlite"), tmp_path / "data"
    keep(log, event("1"), event("2", "impression"))
    compact(log.path, tmp_path / "events")
    data.mkdir()
    (data / "interactions.csv").write_text("Kunde;item_id;timestamp\nu1;a;2025-01-01\n")
    (data / "contract.yaml").write_text(
        "interactions: {delimiter: ';', map: {user_id: Kunde}, set: {event_type: view}}"
    )
    own, events = inspect(data, "interactions", tmp_path / "cache", tmp_path / "events").files
    assert (own.file, own.rows, events.rows, events.warnings) == ("interactions.csv", 1, 1, ())
    assert events.file.startswith("events/interactions/")
    before = inspect(data, "interactions", tmp_path / "cache", tmp_path / "events").version
    keep(log, event("3"))
    compact(log.path, tmp_path / "events")
    after = inspect(data, "interactions", tmp_path / "cache", tmp_path / "events")
    assert (after.files[1].rows, after.version != before) == (2, True), "a plan sees new events as a change"
    assert events.columns == {name: name for name in ("user_id", "item_id", "timestamp", "event_type", "value")}


def test_ubi_files_are_imported_an_id_once_at_the_time_of_the_events(tmp_path: Path) -> None:
    log, old = EventLog(tmp_path / "events.sqlite"), "2025-03-01T12:00:00Z"
    hit = {"_id": "9", "_source": {key: value for key, value in event("x").items() if key != "event_id"}}
    lines = [event("1", timestamp=old), event("1"), {"action_name": "click"}, hit, [], event("2")]
    (tmp_path / "ubi_events.jsonl").write_text("\n".join([*map(json.dumps, lines), "{", ""]))
    assert import_events(tmp_path, log, ()) == EventSummary(
        3,
        1,
        {
            "an event is an object": "2, first ubi_events.jsonl:5",
            "timestamp: Field required": "1, first ubi_events.jsonl:3",
        },
    )
    compact(log.path, tmp_path / "events")
    assert event_files(tmp_path / "events", INTERACTIONS)[0].stem == "2025-03-01"
    assert [row[0] for row in rows(tmp_path / "events", INTERACTIONS)] == ["1", "2", "9"]
    with pytest.raises(UsageError, match="holds no file of events"):
        import_events(tmp_path / "events", log, ())


def test_a_shopper_can_be_forgotten_and_does_not_come_back(tmp_path: Path) -> None:
    log, folder = EventLog(tmp_path / "events.sqlite"), tmp_path / "events"
    keep(log, event("1"), event("2", user_id="u2"), event("3", "impression"))
    compact(log.path, folder)
    keep(log, event("4"))
    files = (log.path, *event_files(folder, INTERACTIONS), *event_files(folder, OTHERS))
    assert sum(erase_rows(file, {"u1"}) for file in files) == 5  # two events are in the log and in a file
    assert keep(log, event("1"), event("4")) == 0
    compact(log.path, folder)
    assert [row[0] for row in rows(folder, INTERACTIONS) + rows(folder, OTHERS)] == ["2"]
    assert log.recent("u1", None, None) == Recent()
    assert sum(erase_rows(file, {"u1"}) for file in files) == 0
