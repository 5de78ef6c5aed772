"""Simulated histories for a catalogue that has none."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import numpy as np

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.demo_shop.shoppers import (
    Ints,
    Wares,
    popularity,
    rows_of,
    shop_around,
    shopper_ids,
    write_log,
)
from vlm4rec_search.datasets.files import find_file, open_table, quote_name, read_errors, require_columns

MARKER = "SIMULATED.json"
_LOG = "interactions.csv.gz"


@dataclass(frozen=True)
class SimulationSummary:
    """What was simulated for which catalogue."""

    catalogue: str
    items: int
    shoppers: int
    interactions: int
    taste: list[str]
    seed: int


def simulate(data: Path, shoppers: int, taste: Sequence[str], seed: int) -> SimulationSummary:
    """Write `interactions.csv.gz` and SIMULATED.json into a data folder.

    Args:
        data: folder with an `items` table of the raw contract.
        shoppers: how many shoppers, at least 1.
        taste: columns of the items that tastes follow; an item without a value counts as one more value.
        seed: 0 or more; the same catalogue and arguments give the same bytes.

    Raises:
        UsageError: there is no catalogue, a column is missing, or the folder holds interactions that are not simulated.
    """
    if shoppers < 1 or seed < 0 or not taste:
        raise UsageError("simulate needs at least 1 shopper, 1 taste column and a seed of 0 or more")
    items = _catalogue(data)
    ids, tastes = _read(items, taste)
    rng = np.random.default_rng(seed)
    always = np.full(len(ids), -1), np.zeros(len(ids), np.int64)
    log = shop_around(Wares(tastes, popularity(len(ids), rng), *always), shoppers, rng)
    summary = SimulationSummary(items.name, len(ids), shoppers, len(log.items), list(taste), seed)
    # The marker comes first: an interrupted run can then be repeated.
    about = {"simulated": f"The shoppers of {_LOG} are simulated; no person did this.", **asdict(summary)}
    (data / MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    part = data / f".{_LOG}.part"
    write_log(part, rows_of(log, shopper_ids(shoppers), ids))
    part.replace(data / _LOG)
    return summary


def _catalogue(data: Path) -> Path:
    items, log = find_file(data, "items"), find_file(data, "interactions")
    if items is None:
        raise UsageError(f"{data} holds no items table (items.csv, items.csv.gz, items.parquet or items.jsonl)")
    if log is not None and (log.name != _LOG or not (data / MARKER).is_file()):
        raise UsageError(f"{log} is there already and was not simulated (no {MARKER}); it is left alone")
    return items


def _read(items: Path, taste: Sequence[str]) -> tuple[list[str], Ints]:
    """Return the distinct item ids and the codes (items, columns) of their taste values."""
    with closing(duckdb.connect()) as connection:
        table = open_table(connection, items)
        require_columns(table.columns, ["item_id", *taste], items)
        columns = ", ".join(f"COALESCE(ANY_VALUE({quote_name(name)})::VARCHAR, '')" for name in taste)
        with read_errors(items):
            rows = table.filter("TRIM(item_id::VARCHAR) <> ''").aggregate(
                f"item_id::VARCHAR AS item, {columns}", "item_id"
            )
            found: list[tuple[str, ...]] = rows.order("item").fetchall()
    if not found:
        raise UsageError(f"{items} has no item with an item_id")
    values = np.array([row[1:] for row in found], dtype=object)
    codes = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return [row[0] for row in found], np.stack(codes, axis=1)
