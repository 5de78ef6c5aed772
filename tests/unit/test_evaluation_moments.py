"""The moments at which a log is divided."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.workspace import ROOT
from scipy import sparse

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.evaluation.data import are_set
from vlm4rec_search.evaluation.protocol import (
    Protocol,
    count_returning,
    find_cuts,
    find_moments,
    find_window_moments,
    histories_until,
    hold_out_last,
    taken_between,
)
from vlm4rec_search.evaluation.snapshots import settings_of_world
from vlm4rec_search.evaluation.splits import HISTORIES, KEPT
from vlm4rec_search.pipeline.rendering import render_model

START = datetime(2025, 1, 1)
SHARES = (0.6, 0.7, 0.8, 0.9)


def log(days: list[int]) -> duckdb.DuckDBPyConnection:
    """Return a warehouse with a first interaction of a shopper on each of these days."""
    connection = duckdb.connect()
    rows = pd.DataFrame({"user_id": [f"u{row}" for row in range(len(days))], "item_id": "i", "event_type": "purchase"})
    rows["interacted_at"] = [START + timedelta(days=day) for day in days]
    for schema in ("staging", "histories", "profiles"):
        connection.execute(f"CREATE SCHEMA {schema}")
    connection.execute("CREATE TABLE staging.interactions AS FROM rows")
    connection.execute("CREATE TABLE histories.as_of AS SELECT MAX(interacted_at) AS as_of FROM rows")
    connection.execute("CREATE TABLE profiles.event_weights AS SELECT 'default' AS event_type, 1.0 AS weight")
    return connection


def days_of(moments: list[datetime]) -> list[float]:
    return [(moment.replace(tzinfo=UTC) - START.replace(tzinfo=UTC)) / timedelta(days=1) for moment in moments]


def test_a_world_takes_encoder_and_cache_of_the_shop_alone(tmp_path: Path) -> None:
    shop = ExplicitSettings(
        engine="spark",
        language="german",
        as_of=START,
        caption_budget=0,
        caption_max_cost=0.1,
        caption_edits=Path("edits.csv"),
        other_captioners="attributes",
        served=Path("shop/served"),
        encoder="hashing-64",
        cache=Path("shop/cache"),
    )
    world, plain = dict(settings_of_world(shop, tmp_path)), dict(ExplicitSettings())
    other = {name for name in world if world[name] != plain[name]}
    places = {"data_dir", "warehouse", "fitted", "served", "forgotten"}
    assert other == {*places, "captioner", "encoder", "cache"}
    assert {world[name].parent for name in places} == {tmp_path}


def test_a_day_with_many_first_purchases_leaves_fewer_windows() -> None:
    with log([*range(5), *[6] * 3, 8, 9, 10]) as connection:
        assert days_of(find_window_moments(connection, SHARES)) == [6.0, 8.0, 9.0]
        with pytest.raises(UsageError, match="too few interactions or different times"):
            find_moments(connection, (*SHARES, 1.0))


def test_a_log_without_times_is_told_which_protocol_needs_none() -> None:
    with log([0] * 9) as connection, pytest.raises(UsageError, match="--protocol leave-one-out` needs no times"):
        find_cuts(connection, Protocol())


def test_windows_need_two_moments() -> None:
    with log([0, 1, 2, *[3] * 8]) as connection, pytest.raises(UsageError, match="too few different times"):
        find_window_moments(connection, SHARES)
    with log([]) as connection, pytest.raises(UsageError, match="too few different times"):
        find_window_moments(connection, SHARES)


def test_cells_may_be_asked_for_where_there_are_none() -> None:
    matrix, nothing = sparse.csr_array(np.eye(2)), np.empty(0, dtype=np.int64)
    assert are_set(matrix, nothing, nothing).tolist() == []
    assert are_set(matrix, np.array([0, 1]), np.array([0, 0])).tolist() == [True, False]


@pytest.fixture
def returns() -> Iterator[duckdb.DuckDBPyConnection]:
    """Return a warehouse of shoppers who viewed an item long ago, and did something with item i on days after START."""
    did = {
        "buys": ["purchase 1"],
        "sends_back": ["view 1", "purchase 1", "return 1"],
        "sends_back_one_of_two": ["purchase 2", "return 1"],
        "buys_again": ["purchase 1", "return 1", "purchase 1"],
        "hides": ["view 1", "hide 1"],
        "only_looks": ["view 1"],
    }
    rows = [(user, "i", each, 1 + day) for user, events in did.items() for day, each in enumerate(events)]
    rows += [("bought_before", "i", "purchase 1", -1)]
    rows += [("sends_back_later", "i", "purchase 1", 9), ("sends_back_later", "i", "return 1", 11)]
    rows += [(user, "other", "view 1", -100) for user in sorted({user for user, *_ in rows})]
    log = pd.DataFrame(
        {
            "row_number": range(len(rows)),
            "user_id": [user for user, *_ in rows],
            "item_id": [item for _, item, *_ in rows],
            "event_type": [event.split()[0] for *_, event, _ in rows],
            "value": [float(event.split()[1]) for *_, event, _ in rows],
            "interacted_at": [START + timedelta(days=day) for *_, day in rows],
        }
    )
    with duckdb.connect() as connection:
        for schema in ("staging", "histories", "profiles"):
            connection.execute(f"CREATE SCHEMA {schema}")
        connection.register("log", log)
        connection.execute("CREATE TABLE staging.interactions AS FROM log")
        connection.execute("CREATE TABLE histories.as_of AS SELECT MAX(interacted_at) AS as_of FROM log")
        weights = ROOT / "models" / "profiles" / "event_weights.csv"
        connection.execute(f"CREATE TABLE profiles.event_weights AS FROM '{weights}'")
        histories = render_model(ROOT, "histories.user_histories")
        connection.execute(f"CREATE TABLE histories.user_histories AS {histories}")
        yield connection


def test_what_was_sent_back_or_hidden_in_the_window_is_not_to_be_found(returns: duckdb.DuckDBPyConnection) -> None:
    taken = taken_between(returns, histories_until(ROOT), START, START + timedelta(days=10))
    assert sorted(taken["user_id"]) == ["buys", "buys_again", "only_looks", "sends_back_later", "sends_back_one_of_two"]


def test_who_comes_back_is_counted_without_tables(returns: duckdb.DuckDBPyConnection) -> None:
    until, long_before = START + timedelta(days=10), START - timedelta(days=50)

    def count(since: datetime, protocol: Protocol) -> int:
        return count_returning(returns, histories_until(ROOT), protocol, since, until)

    assert count(START, Protocol(history=1)) == 5, "what was sent back or bought before is nothing to find"
    assert count(START, Protocol(history=2)) == 0
    assert count(long_before, Protocol(history=1)) == 0, "nobody had taken the item before"
    assert count(long_before, Protocol(history=1, candidates="all")) == 6


def test_the_last_item_that_is_held_out_was_not_sent_back_or_hidden(returns: duckdb.DuckDBPyConnection) -> None:
    returns.execute(KEPT)
    held = hold_out_last(returns, Protocol(history=1))
    of_item = held[held["item_id"] == "i"]["user_id"]
    assert sorted(of_item) == ["bought_before", "buys", "buys_again", "only_looks", "sends_back_one_of_two"]


def test_a_history_has_what_was_not_sent_back_or_hidden(returns: duckdb.DuckDBPyConnection) -> None:
    returns.execute("CREATE OR REPLACE TABLE histories.as_of AS SELECT as_of, as_of AS newest FROM histories.as_of")
    returns.execute(f"CREATE TABLE profiles.likes AS {render_model(ROOT, 'profiles.likes')}")
    users = {user for user, item, _ in returns.execute(HISTORIES).fetchall() if item == "i"}
    assert users == {"bought_before", "buys", "buys_again", "only_looks", "sends_back_one_of_two"}
