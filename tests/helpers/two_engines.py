"""The tables of a plan on DuckDB beside those of a plan on Spark that were fetched."""

import json
import math
from pathlib import Path
from typing import Any

import duckdb

from helpers.workspace import Workspace

_TABLES = """
SELECT schema_name, view_name FROM duckdb_views()
WHERE NOT internal AND NOT contains(schema_name, '__') ORDER BY ALL
"""


def _rows(file: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table in an order of their own; JSON as what it means, without the spelling of numbers."""
    with duckdb.connect(str(file), read_only=True) as connection:
        relation = connection.sql(f"FROM {table}")
        is_json = [str(kind) == "JSON" for kind in relation.types]
        found = [
            {
                name: json.loads(value) if json_type and value is not None else value
                for name, value, json_type in zip(relation.columns, row, is_json, strict=True)
            }
            for row in relation.fetchall()
        ]
    return sorted(
        found, key=lambda row: [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
    )


def _close(one: object, other: object) -> bool:
    """Return whether two values are equal; numbers up to their last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_close, one, other))
    return one == other


def check_tables(on_duckdb: Workspace, on_spark: Workspace) -> None:
    """Check that both have the same tables with the same rows."""
    tables = on_duckdb.query(_TABLES)
    assert on_spark.query(_TABLES) == tables
    assert len(tables) > 40
    for schema, name in tables:
        expected, found = (
            _rows(place.folder / "warehouse.duckdb", f'{schema}."{name}"') for place in (on_duckdb, on_spark)
        )
        assert len(found) == len(expected), f"{schema}.{name}"
        for one, other in zip(expected, found, strict=True):
            assert _close(one, other), f"{schema}.{name}: {one} on DuckDB, {other} on Spark"
