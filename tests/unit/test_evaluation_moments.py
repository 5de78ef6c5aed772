"""The moments at which a log is divided."""

from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.data import are_set
from vlm4rec_search.evaluation.protocol import find_moments, find_window_moments

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


def test_a_day_with_many_first_purchases_leaves_fewer_windows() -> None:
    with log([*range(5), *[6] * 3, 8, 9, 10]) as connection:
        assert days_of(find_window_moments(connection, SHARES)) == [6.0, 8.0, 9.0]
        with pytest.raises(UsageError, match="too few interactions or different times"):
            find_moments(connection, (*SHARES, 1.0))


def test_windows_need_two_moments() -> None:
    with log([0, 1, 2, *[3] * 8]) as connection, pytest.raises(UsageError, match="too few different times"):
        find_window_moments(connection, SHARES)
    with log([]) as connection, pytest.raises(UsageError, match="too few different times"):
        find_window_moments(connection, SHARES)


def test_cells_may_be_asked_for_where_there_are_none() -> None:
    matrix, nothing = sparse.csr_array(np.eye(2)), np.empty(0, dtype=np.int64)
    assert are_set(matrix, nothing, nothing).tolist() == []
    assert are_set(matrix, np.array([0, 1]), np.array([0, 0])).tolist() == [True, False]
