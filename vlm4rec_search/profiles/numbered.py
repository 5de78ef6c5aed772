"""Rows of shoppers and items, whose ids the database numbers: millions of rows would otherwise be as many texts."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from sqlglot import exp, parse_one

from vlm4rec_search.common.vectors import Texts

_IDS = "SELECT {name} AS id FROM given GROUP BY {name} ORDER BY {name}"
_NUMBERED = """
    WITH users AS (
        SELECT user_id, ROW_NUMBER() OVER (ORDER BY user_id) - 1 AS number FROM given GROUP BY user_id
    ), items AS (
        SELECT item_id, ROW_NUMBER() OVER (ORDER BY item_id) - 1 AS number FROM given GROUP BY item_id
    )
    SELECT CAST(users.number AS INT) AS user_number, CAST(items.number AS INT) AS item_number, {values}
    FROM given AS given
    INNER JOIN users ON users.user_id = given.user_id
    INNER JOIN items ON items.item_id = given.item_id
"""
_OF_PAIRS = "GROUP BY users.number, items.number ORDER BY user_number, item_number"


class Numbered(NamedTuple):
    """The rows of a table with numbers in place of ids.

    Attributes:
        user_ids, item_ids: (u,) and (n,), sorted; a number is a place in them.
        rows: user_number and item_number (int32), and the values that were asked for.
    """

    user_ids: Texts
    item_ids: Texts
    rows: pd.DataFrame


def read_numbered(
    fetch: Callable[[exp.Expr], pd.DataFrame], table: str, values: str, *, of_pairs: bool = False
) -> Numbered:
    """Return the rows of a table with the columns user_id and item_id.

    Args:
        fetch: returns the rows of a query.
        table: name of the table.
        values: SQL of the other columns, over the table `given`.
        of_pairs: the values are aggregates over the rows of a pair, and the pairs stand in the order of their numbers.
    """

    def rows(sql: str) -> pd.DataFrame:
        return fetch(exp.replace_tables(parse_one(sql, dialect="duckdb"), {"given": table}, dialect="duckdb"))

    user_ids, item_ids = (rows(_IDS.format(name=name))["id"].to_numpy(object) for name in ("user_id", "item_id"))
    return Numbered(user_ids, item_ids, rows(_NUMBERED.format(values=values) + (_OF_PAIRS if of_pairs else "")))
