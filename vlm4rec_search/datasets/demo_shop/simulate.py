"""Simulates an interaction log for a catalogue that has none."""

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
    ItemTraits,
    draw_popularity,
    log_rows,
    shopper_ids,
    simulate_log,
    write_log,
)
from vlm4rec_search.datasets.files import find_file, open_table, quote_name, read_errors, require_columns

MARKER = "SIMULATED.json"
_LOG = "interactions.csv.gz"


@dataclass(frozen=True)
class SimulationSummary:
    """Numbers of a simulated log, and the file name of its catalogue."""

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
        shoppers: number of shoppers, at least 1.
        taste: columns of the items that tastes follow; a missing value counts as a value of its own.
        seed: 0 or more; the same catalogue and arguments give the same bytes.

    Raises:
        UsageError: there is no catalogue, a column is missing, or the folder holds interactions that are not simulated.
    """
    if shoppers < 1 or seed < 0 or not taste:
        raise UsageError("simulate needs at least 1 shopper, 1 taste column and a seed of 0 or more")
    items = _find_catalogue(data)
    ids, tastes = _read_traits(items, taste)
    rng = np.random.default_rng(seed)
    all_year, from_the_start = np.full(len(ids), -1), np.zeros(len(ids), np.int64)
    log = simulate_log(ItemTraits(tastes, draw_popularity(len(ids), rng), all_year, from_the_start), shoppers, rng)
    summary = SimulationSummary(items.name, len(ids), shoppers, len(log.items), list(taste), seed)
    # The marker is written first, so that an interrupted run can be repeated.
    about = {"simulated": f"The shoppers of {_LOG} are simulated; no person did this.", **asdict(summary)}
    (data / MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    part = data / f".{_LOG}.part"
    write_log(part, log_rows(log, shopper_ids(shoppers), ids))
    part.replace(data / _LOG)
    return summary


def _find_catalogue(data: Path) -> Path:
    items, log = find_file(data, "items"), find_file(data, "interactions")
    if items is None:
        raise UsageError(f"{data} holds no items table (items.csv, items.csv.gz, items.parquet or items.jsonl)")
    if log is not None and (log.name != _LOG or not (data / MARKER).is_file()):
        raise UsageError(f"{log} is there already and was not simulated (no {MARKER}); it must not be overwritten")
    return items


def _read_traits(items: Path, taste: Sequence[str]) -> tuple[list[str], Ints]:
    """Return the distinct item ids and the codes (items, columns) of their taste values."""
    with closing(duckdb.connect()) as connection:
        table = open_table(connection, items)
        require_columns(table.columns, ["item_id", *taste], items)
        columns = ", ".join(f"COALESCE(ANY_VALUE({quote_name(name)})::VARCHAR, '')" for name in taste)
        with read_errors(items):
            grouped = table.filter("TRIM(item_id::VARCHAR) <> ''").aggregate(
                f"item_id::VARCHAR AS item, {columns}", "item_id"
            )
            rows: list[tuple[str, ...]] = grouped.order("item").fetchall()
    if not rows:
        raise UsageError(f"{items} has no item with an item_id")
    values = np.array([row[1:] for row in rows], dtype=object)
    codes = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return [row[0] for row in rows], np.stack(codes, axis=1)
