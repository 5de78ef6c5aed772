"""The SQL of the project's macros, run on values as a model runs it."""

from collections.abc import Sequence
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import duckdb
import sqlglot

from helpers.workspace import ROOT
from vlm4rec_search.pipeline.rendering import load_macros

DUCKDB = SimpleNamespace(gateway="duckdb", runtime_stage="evaluating")
"""What a macro asks its evaluator, in a plan with DuckDB."""
SPARK = SimpleNamespace(gateway="spark", runtime_stage="evaluating")


@cache
def macros(name: str) -> ModuleType:
    """Return a module of the folder `macros`."""
    return load_macros(ROOT)[name]


def run(sql: str, values: Sequence[str], source: str = "input", order: str = " ORDER BY n") -> list[Any]:
    """Return the value of an SQL expression over the column `text` for each of the values.

    An aggregate needs an empty `order`, and is one value. The expression goes through sqlglot, as in a plan, and the
    session has another time zone than UTC.
    """
    expression = _as_planned(f"SELECT {sql} FROM {source}{order}")
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        table = "CREATE TABLE input AS SELECT UNNEST($1::TEXT[]) AS text, UNNEST(RANGE($2)) AS n"
        connection.execute(table, [list(values), len(values)])
        return [value for (value,) in connection.execute(expression).fetchall()]


@cache
def _as_planned(sql: str) -> str:
    return sqlglot.parse_one(sql, dialect="duckdb").sql(dialect="duckdb")
