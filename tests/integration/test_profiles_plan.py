"""Profiles in whole plans: odd histories, and the profiles that a change of the log rebuilds."""

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import pytest
from helpers.workspace import Workspace

START = datetime(2025, 1, 1)
HEAVY = 50_000


def write(workspace: Workspace, name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    workspace.data.mkdir(exist_ok=True)
    with (workspace.data / name).open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def catalogue(workspace: Workspace, items: int) -> None:
    words = ["navy", "red", "striped", "oak", "wool", "small"]
    rows = [(f"i{item:03d}", f"{words[item % 6]} thing {item}", f"kind {item % 3}") for item in range(items)]
    write(workspace, "items.csv", ("item_id", "title", "category"), rows)


def log(heavy: int = 0, more: Sequence[tuple[str, str, datetime]] = ()) -> list[tuple[str, str, datetime]]:
    """Return events: three items each for u0 to u9, one item for `solo`, and `heavy` events for the user heavy."""
    few = [
        (f"u{user}", f"i{user + step:03d}", START + timedelta(days=10 * step))
        for user in range(10)
        for step in range(3)
    ]
    many = [("heavy", f"i{event % 300:03d}", START + timedelta(minutes=event % 9973)) for event in range(heavy)]
    return [*more, ("solo", "i007", START), *many, *reversed(few)]


def write_log(workspace: Workspace, rows: list[tuple[str, str, datetime]]) -> None:
    write(workspace, "interactions.csv", ("user_id", "item_id", "timestamp"), rows)


def test_odd_histories_become_profiles_and_a_change_rebuilds_few(workspace: Workspace) -> None:
    catalogue(workspace, 300)
    write_log(workspace, log(HEAVY))
    users = [("u1", "gold", ""), ("new", "gold", ""), ("new", "silver", ""), ("born", "", "1991-04-07")]
    write(workspace, "users.csv", ("user_id", "segment", "birthday"), users)
    workspace.plan()
    assert workspace.query("SELECT COUNT(*), COUNT(vector) FROM search.user_documents") == [(14, 12)]
    assert workspace.query("SELECT reason FROM staging.rejected_users") == [("repeated user id",)]
    known = (
        "SELECT segment, items, LEN(interests), LEN(behaviour), LEN(seen) FROM search.user_documents WHERE user_id = "
    )
    assert workspace.query(f"{known} 'new'") == [("gold", 0, 0, 0, 0)]
    assert workspace.query(f"{known} 'born'") == [(None, 0, 0, 0, 0)]
    assert workspace.query(f"{known} 'solo'") == [(None, 1, 1, 1, 1)]
    assert workspace.query(f"{known} 'heavy'") == [(None, 300, 3, 100, 300)]
    # of three events, ten days apart, the last has weight 1
    half = workspace.query("SELECT half_life_days FROM profiles.pace")[0][0]
    weights = workspace.query("SELECT weight FROM profiles.profile_weights WHERE user_id = 'u1' ORDER BY item_id")
    assert [weight for (weight,) in weights] == pytest.approx([0.5 ** (20 / half), 0.5 ** (10 / half), 1.0])
    segments = "SELECT item_id FROM search.segment_popularity WHERE segment = 'gold' ORDER BY rank"
    assert workspace.query(segments) == [("i001",), ("i002",), ("i003",)]
    assert workspace.computed("profile") == workspace.computed("interests") == [12]

    # Another as_of, even one long after the log, changes no profile, and what was taken last is still recent.
    tables = ("ease_weights", "similar_shoppers", "item_neighbours", "item_popularity", "segment_popularity")
    before = [workspace.query(f"FROM search.{table} ORDER BY ALL") for table in tables]
    assert all(before)
    workspace.settings["VLM4REC_AS_OF"] = "2055-03-01"
    workspace.plan()
    assert [workspace.query(f"FROM search.{table} ORDER BY ALL") for table in tables] == before
    # Another event changes only the profile of its shopper.
    write_log(workspace, log(HEAVY, [("u3", "i100", START + timedelta(days=21))]))
    workspace.plan()
    assert workspace.computed("profile")[1:] in ([0, 1], [1])
    assert workspace.computed("interests")[1:] in ([0, 1], [1])


def test_one_item_and_one_interaction_are_enough(workspace: Workspace) -> None:
    catalogue(workspace, 1)
    write_log(workspace, [("u", "i000", START)])
    workspace.plan()
    row = "SELECT items, history[1].item_id, interests[1].medoid, behaviour, categories FROM search.user_documents"
    start = {"item_id": "i000", "weight": 1.0, "lasting": 1.0}
    assert workspace.query(row) == [(1, "i000", "i000", [start], ["kind 0"])]
    assert workspace.query("SELECT COUNT(*) FROM search.item_neighbours") == [(0,)]


def test_dislikes_alone_make_no_profile_but_exclude_the_disliked_items(workspace: Workspace) -> None:
    catalogue(workspace, 3)
    header = ("user_id", "item_id", "timestamp", "event_type")
    rows = [("angry", "i000", START, "hide"), ("fond", "i000", START, "purchase"), ("fond", "i001", START, "return")]
    write(workspace, "interactions.csv", header, rows)
    workspace.plan()
    shoppers = workspace.query(
        "SELECT user_id, vector IS NULL, seen, LEN(terms) > 0 FROM search.user_documents ORDER BY 1"
    )
    assert shoppers == [("angry", True, ["i000"], False), ("fond", False, ["i000", "i001"], True)]
    likes = "SELECT item_id, shoppers FROM search.item_popularity"
    assert workspace.query(likes) == [("i000", 1)]
    whys = workspace.query("SELECT why FROM profiles.profile_weights WHERE user_id = 'fond' ORDER BY item_id")
    assert [why.split(";")[0] for (why,) in whys] == ["1 x purchase +1.00", "1 x return -0.80"]
