"""Simulates an interaction log for a catalogue that has none."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import numpy as np

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.datasets.columns import match_columns
from vlm4rec_search.datasets.declarations import load_declarations
from vlm4rec_search.datasets.demo_shop.shoppers import (
    Ints,
    ItemTraits,
    draw_popularity,
    log_rows,
    shopper_ids,
    simulate_log,
    write_log,
)
from vlm4rec_search.datasets.files import read_errors, require_columns
from vlm4rec_search.datasets.raw import find_files
from vlm4rec_search.datasets.several import open_files

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
    ids, tastes = _read_traits(data, items, taste)
    rng = np.random.default_rng(seed)
    all_year, from_the_start = np.full(len(ids), -1), np.zeros(len(ids), np.int64)
    log = simulate_log(ItemTraits(tastes, draw_popularity(len(ids), rng), all_year, from_the_start), shoppers, rng)
    summary = SimulationSummary(items[0].name, len(ids), shoppers, len(log.items), list(taste), seed)
    # The marker is written first, so that an interrupted run can be repeated.
    about = {"simulated": f"The shoppers of {_LOG} are simulated; no person did this.", **asdict(summary)}
    (data / MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    with replacing_file(data / _LOG) as part:
        write_log(part, log_rows(log, shopper_ids(shoppers), ids))
    return summary


def _find_catalogue(data: Path) -> list[Path]:
    declared = load_declarations(data)
    items = find_files(data, "items", declared.items)
    if not items:
        raise UsageError(f"{data} holds no items table, such as items.csv, items.parquet or items.jsonl")
    for log in find_files(data, "interactions", declared.interactions):
        if log != data / _LOG or not (data / MARKER).is_file():
            raise UsageError(f"{log} is there already and was not simulated (no {MARKER}); it must not be overwritten")
    return items


def _read_traits(data: Path, items: Sequence[Path], taste: Sequence[str]) -> tuple[list[str], Ints]:
    """Return the distinct item ids and the codes (items, columns) of their taste values."""
    declared = load_declarations(data).items
    with closing(duckdb.connect()) as connection, open_files(connection, data, items, "items", declared) as records:
        match = match_columns(items[0], list(records.values), "items", declared)
        sql = {**records.values, **records.columns(match)}
        require_columns(sql, taste, items[0])
        columns = ", ".join(f"COALESCE(ANY_VALUE({sql[name]}), '')" for name in taste)
        item = sql["item_id"]
        with read_errors(items[0]):
            grouped = records.relation.filter(f"TRIM({item}) <> ''").aggregate(f"{item} AS item, {columns}", item)
            rows: list[tuple[str, ...]] = grouped.order("item").fetchall()
    if not rows:
        raise UsageError(f"{items[0]} has no item with an item_id")
    values = np.array([row[1:] for row in rows], dtype=object)
    codes = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return [row[0] for row in rows], np.stack(codes, axis=1)
