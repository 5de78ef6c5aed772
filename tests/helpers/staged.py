"""A data folder as the raw reader and the staging models make tables of it, without a plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from helpers.workspace import ROOT
from vlm4rec_search.common.patterns import MARKUP
from vlm4rec_search.datasets.declarations import CONTRACT, load_declarations, variable
from vlm4rec_search.datasets.raw import describe, inspect
from vlm4rec_search.pipeline.rendering import render_model

_MODELS = ("item_formats", "interaction_formats", "user_formats", "judged_items", "judged_interactions", "judged_users")


@dataclass(frozen=True)
class Staged:
    """What staging makes of the items and interactions of a folder.

    Attributes:
        items: accepted items by id: the columns of `staging.judged_items`, attributes as text.
        events: accepted interactions: shopper, item, event type, value, time as text.
        refused: table, line and reason of each row that is refused or cannot be read.
        emptied: id, field and reason of each value that cannot be read.
        told: notes and warnings of the reader.
    """

    items: dict[str, dict[str, Any]]
    events: list[tuple[str, str, str, float, str]]
    refused: list[tuple[str, int, str]]
    emptied: list[tuple[str, str, str]]
    told: str


@cache
def _models(declared: str) -> list[tuple[str, str]]:
    variables = {"markup": MARKUP, "declared_values": declared}
    return [(name, render_model(ROOT, f"staging.{name}", variables)) for name in _MODELS]


def stage(folder: Path, files: Mapping[str, str | bytes]) -> Staged:
    """Write files into a new folder and read them as a plan does.

    Raises:
        UsageError: as `inspect`.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    cache_folder = folder.parent / f"{folder.name}-cache"
    told: list[str] = []
    refused: list[tuple[str, int, str]] = []
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("CREATE SCHEMA raw; CREATE SCHEMA staging; SET TimeZone = 'America/New_York'")
        for table, columns in CONTRACT.items():
            kinds = ", ".join(f"{name} TEXT" for name in columns)
            connection.execute(f"CREATE TABLE raw.{table} (file TEXT, line BIGINT, {kinds}, attributes JSON)")
            found = inspect(folder, table, cache_folder)
            notes, warnings = describe(found)
            told += notes + warnings
            for file in found.files:
                stored = cache_folder / "raw" / f"{file.key}.parquet"
                if stored.exists():
                    connection.execute(f"INSERT INTO raw.{table} FROM '{stored}'")
                if file.broken:
                    broken = connection.read_parquet(str(stored.with_suffix(".broken.parquet")))
                    refused += [(table, line, why) for line, why in broken.project("line, reason").fetchall()]
            connection.execute(f"ALTER TABLE raw.{table} ADD COLUMN row_number BIGINT")
            connection.execute(f"UPDATE raw.{table} SET row_number = rowid + 1")
        for name, sql in _models(variable(load_declarations(folder).values)):
            connection.execute(f"CREATE TABLE staging.{name} AS {sql}")
        for table in ("items", "interactions", "users"):
            refused += connection.execute(f"""
                SELECT '{table}', raw.line, judged.reason
                FROM staging.judged_{table} AS judged JOIN raw.{table} AS raw USING (row_number)
                WHERE judged.reason IS NOT NULL ORDER BY row_number
            """).fetchall()
        accepted = connection.sql("FROM staging.judged_items WHERE reason IS NULL ORDER BY row_number")
        items = [dict(zip(accepted.columns, row, strict=True)) for row in accepted.fetchall()]
        events = connection.sql("""
            SELECT user_id, item_id, event_type, value, CAST(interacted_at AS TEXT)
            FROM staging.judged_interactions WHERE reason IS NULL ORDER BY row_number
        """).fetchall()
    fields = ("price", "available", "description")
    emptied = [(item["item_id"], field, item[f"{field}_reason"]) for item in items for field in fields
               if item[f"{field}_reason"]]  # fmt: skip
    return Staged({item["item_id"]: item for item in items}, events, refused, emptied, "\n".join(told))
