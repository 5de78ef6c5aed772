"""Weights and orders of profiles do not depend on the order in which DuckDB adds rows."""

from functools import cache

import duckdb
import pytest
from helpers.workspace import ROOT

from vlm4rec_search.pipeline.rendering import render_model

TABLES = ("profiles.profile_weights", "profiles.favourite_categories", "profiles.repeat_items")
# Two shoppers with equal events, and four items with equal ages, in two categories: nothing but ids tells them apart.
LOG = """
    CREATE TABLE log AS
    SELECT
        'u' || shopper AS user_id, 'i' || item AS item_id, 'purchase' AS event_type, 1.0 AS value,
        TIMESTAMP '2025-03-11 12:00:00' - to_hours((event * event * 7)::INT) AS interacted_at,
        event * event * 7 / 24.0 AS days, (item * 100 + event)::BIGINT AS position
    FROM range(2) AS shoppers(shopper), range(4) AS items(item), range(40) AS events(event)
"""

PACE = """
    CREATE TABLE profiles.pace AS
    SELECT 23 AS half_life_days, 5 AS behaviour_half_life_days, 10 AS lasting_half_life_days
"""


@pytest.fixture(scope="module", params=[1, 2, 3])
def shop(request: pytest.FixtureRequest) -> duckdb.DuckDBPyConnection:
    """The tables of a log whose rows arrive in some order."""
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA histories; CREATE SCHEMA profiles; CREATE SCHEMA staging; SET threads = 1")
    connection.execute(LOG)
    connection.execute(f"CREATE TABLE histories.user_histories AS FROM log ORDER BY hash(log, {request.param})")
    connection.execute("CREATE TABLE profiles.likes AS FROM histories.user_histories")
    connection.execute(f"CREATE TABLE profiles.event_weights AS FROM '{ROOT}/models/profiles/event_weights.csv'")
    connection.execute("UPDATE profiles.event_weights SET repeat_cap = 1000")
    connection.execute(PACE)
    connection.execute(
        "CREATE TABLE staging.items AS"
        " SELECT 'i' || item AS item_id, 'c' || item // 2 AS category FROM range(4) AS items(item)"
    )
    for table in TABLES:
        connection.execute(f"CREATE TABLE {table} AS {_query(table)}")
    return connection


@cache
def _query(table: str) -> str:
    return render_model(ROOT, table, {"declared_values": "{}"})


@pytest.mark.parametrize("column", ["weight", "recent"])
def test_equal_histories_have_equal_weights(shop: duckdb.DuckDBPyConnection, column: str) -> None:
    weights = shop.execute(f"SELECT DISTINCT {column} FROM profiles.profile_weights").fetchall()
    assert len(weights) == 1


def test_events_that_cancel_leave_nothing() -> None:
    """A view (0.2), a cart (0.6) and a return (-0.8) of one day, before other events."""
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA histories; CREATE SCHEMA profiles")
        connection.execute("""
            CREATE TABLE histories.user_histories AS
            SELECT 'u' || shopper AS user_id, 'i' AS item_id, event_type, 1.0 AS value, 1::BIGINT AS position,
                TIMESTAMP '2025-03-01' AS interacted_at
            FROM range(50) AS shoppers(shopper), (VALUES ('view'), ('cart'), ('return')) AS kinds(event_type)
            UNION ALL
            SELECT 'u' || shopper, 'j', 'purchase', 1.0, 2, TIMESTAMP '2025-03-02' + to_minutes(shopper::INT * 97)
            FROM range(50) AS shoppers(shopper)
        """)
        connection.execute(f"CREATE TABLE profiles.event_weights AS FROM '{ROOT}/models/profiles/event_weights.csv'")
        connection.execute(PACE)
        connection.execute(f"CREATE TABLE weights AS {_query('profiles.profile_weights')}")
        sums = "SELECT DISTINCT weight, recent FROM weights WHERE item_id = 'i'"
        assert connection.execute(sums).fetchall() == [(0.0, 0.0)]


def test_equal_items_and_categories_are_in_the_order_of_their_names(shop: duckdb.DuckDBPyConnection) -> None:
    repeats = "SELECT user_id, LIST(item_id ORDER BY rank) FROM profiles.repeat_items GROUP BY ALL ORDER BY ALL"
    assert shop.execute(repeats).fetchall() == [(user, ["i0", "i1", "i2", "i3"]) for user in ("u0", "u1")]
    categories = "SELECT categories FROM profiles.favourite_categories ORDER BY user_id"
    assert shop.execute(categories).fetchall() == [(["c0", "c1"],)] * 2
