"""Writes a simulated log as `interactions.csv.gz`."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vlm4rec_search.datasets.demo_shop.shoppers import EVENTS, Interactions

COLUMNS = ("user_id", "item_id", "timestamp", "event_type", "value")
Row = tuple[str, str, str, str, str]


def shopper_ids(count: int) -> list[str]:
    """Name the shoppers u001, u002 and so on."""
    width = max(3, len(str(count)))
    return [f"u{number:0{width}d}" for number in range(1, count + 1)]


def rows_of(log: Interactions, shoppers: Sequence[str], items: Sequence[str]) -> Iterable[Row]:
    """Return the log as text, one row per event."""
    return zip(
        np.array(shoppers, dtype=object)[log.shoppers].tolist(),
        np.array(items, dtype=object)[log.items].tolist(),
        np.datetime_as_string(log.times, unit="s").tolist(),
        np.array(EVENTS, dtype=object)[log.events].tolist(),
        np.where(log.values == 2, "2", "1").tolist(),
        strict=True,
    )


def write_log(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows as gzipped CSV; no time stamp in the header, so that equal rows give equal bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
