"""Simulates shoppers who each prefer some values of the taste columns, and writes their interactions.

The probability that shopper u picks item i in month m is proportional to

    popularity(i) * season(i, m) * launched(i, m) * product over the columns c of lift(u, c, value of i in c),

which is a softmax over additive utilities. `lift` gives a shopper's favourite value 0.55 and the second favourite 0.2
of the picks, however rare the value is; the rest is random. Items with equal values in all columns form a cell, so that
the work grows with shoppers x cells and not with shoppers x items.

The simulated year ends on a fixed day, so that a seed always gives the same log.
"""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Row = tuple[str, str, str, str, str]
"""One event as text, a value for each of COLUMNS."""

COLUMNS = ("user_id", "item_id", "timestamp", "event_type", "value")
EVENTS = ("view", "cart", "purchase")
_FAVOURITE, _SECOND = 0.55, 0.2
_CHUNK = 4_000_000  # cells of the matrix shoppers x cells that are in memory at once

START = np.datetime64("2024-07-01T00:00:00", "s")
END = np.datetime64("2025-06-30T23:59:59", "s")
MONTHS = 12

_DAYS = np.arange(START.astype("datetime64[D]"), END.astype("datetime64[D]") + 1)
_MONTH_OF_DAY = (_DAYS.astype("datetime64[M]") - _DAYS[0].astype("datetime64[M]")).astype(np.int64)
_HOURS = np.array([1, 1, 1, 1, 1, 1, 2, 4, 5, 6, 6, 7, 8, 7, 6, 6, 7, 8, 10, 12, 13, 11, 7, 3], dtype=np.float64)


def season_of_month() -> Ints:
    """Return the season of each month, shape (MONTHS,): 0 spring to 3 winter, on the northern hemisphere."""
    calendar_months = (np.arange(MONTHS) + 6) % 12 + 1
    return (calendar_months - 3) % 12 // 3


def _shares_of_days() -> Floats:
    """Return the cumulative share of the year's events by day: more on weekends, most before the holidays."""
    weekday = (_DAYS.astype(np.int64) + 3) % 7
    weights = np.where(weekday >= 5, 1.3, 1.0) * np.array([1, 1, 1, 1, 1.4, 1.8, 1.1, 1, 1, 1, 1, 1])[_MONTH_OF_DAY]
    shares: Floats = np.cumsum(weights / weights.sum())
    return shares


def draw_times(shopper: Ints, shoppers: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.datetime64], Ints]:
    """Draw a time for each pick, after the shopper has joined.

    Args:
        shopper: (n,) row number of the shopper of each pick.
        shoppers: number of shoppers.
        rng: random generator.

    Returns:
        Times (n,) in seconds, and months (n,) counted from the start of the year.
    """
    joined = rng.uniform(0, 0.85, shoppers)[shopper]
    day = np.searchsorted(_shares_of_days(), joined + (1 - joined) * rng.random(len(shopper))).clip(0, len(_DAYS) - 1)
    hour = np.searchsorted(_HOURS.cumsum() / _HOURS.sum(), rng.random(len(shopper)))
    seconds = hour * 3600 + rng.integers(3600, size=len(shopper))
    return _DAYS[day].astype("datetime64[s]") + seconds.astype("timedelta64[s]"), _MONTH_OF_DAY[day]


@dataclass(frozen=True)
class ItemTraits:
    """The traits of n items that decide which shopper picks them when."""

    tastes: Ints
    """(n, columns): code of each item's value in each taste column."""
    popularity: Floats
    """(n,): how often shoppers meet an item, relative to the other items."""
    season: Ints
    """(n,): 0 spring to 3 winter, -1 for all year."""
    launch_month: Ints
    """(n,): months after the start of the year; at least one item has 0."""


@dataclass(frozen=True)
class Interactions:
    """A log of n events in order of time; `shoppers` and `items` are row numbers."""

    shoppers: Ints
    items: Ints
    events: Ints
    """(n,): index into EVENTS."""
    values: Floats
    times: npt.NDArray[np.datetime64]


def draw_popularity(items: int, rng: np.random.Generator) -> Floats:
    """Draw how often shoppers meet each item: log-normal, so that a few items are met often."""
    return rng.lognormal(0, 0.7, items)


def simulate_log(items: ItemTraits, shoppers: int, rng: np.random.Generator) -> Interactions:
    """Simulate one year of events; every shopper has at least one."""
    cells, cell_of = np.unique(items.tastes, axis=0, return_inverse=True)
    favourites, lifts = _draw_tastes(items.tastes, shoppers, rng)
    shopper = np.repeat(np.arange(shoppers), _draw_lengths(shoppers, rng))
    times, month = draw_times(shopper, shoppers, rng)
    weights = _weights(items)
    cell = _pick_cells(lifts, cells, _cell_mass(weights, cell_of, len(cells)), shopper, month, rng)
    item = _pick_items(weights, cell_of, cell, month, rng)
    matched = (items.tastes[item] == favourites[shopper]).mean(axis=1)
    return _follow_up(shopper, item, times, matched, rng)


def _draw_lengths(shoppers: int, rng: np.random.Generator) -> Ints:
    """Draw the number of picks of each shopper: median about 8, at most 200, a single pick for one in twenty."""
    lengths = np.rint(rng.lognormal(np.log(8), 0.9, shoppers)).clip(1, 200).astype(np.int64)
    lengths[rng.random(shoppers) < 0.05] = 1
    return lengths


def _draw_tastes(tastes: Ints, shoppers: int, rng: np.random.Generator) -> tuple[Ints, list[Floats]]:
    """Draw favourites (shoppers, columns), and for each column the lifts (shoppers, values)."""
    favourites = np.empty((shoppers, tastes.shape[1]), np.int64)
    lifts = []
    rows = np.arange(shoppers)
    for column, codes in enumerate(tastes.T):
        shares = np.bincount(codes) / len(codes)
        first, second = rng.choice(np.flatnonzero(shares), size=(2, shoppers))
        lift = np.full((shoppers, len(shares)), 1 - _FAVOURITE - _SECOND)
        lift[rows, first] += _FAVOURITE / shares[first]
        lift[rows, second] += _SECOND / shares[second]
        favourites[:, column] = first
        lifts.append(lift)
    return favourites, lifts


def _weights(items: ItemTraits) -> Floats:
    """Return how often any shopper meets an item in a month, shape (months, items)."""
    months = np.arange(MONTHS)[:, None]
    in_season = np.where(items.season == season_of_month()[:, None], 2.0, 0.6)
    return items.popularity * np.where(items.season < 0, 1.0, in_season) * (items.launch_month <= months)


def _cell_mass(weights: Floats, cell_of: Ints, cells: int) -> Floats:
    return np.stack([np.bincount(cell_of, weights=row, minlength=cells) for row in weights])


def _pick_cells(
    lifts: list[Floats], cells: Ints, mass: Floats, shopper: Ints, month: Ints, rng: np.random.Generator
) -> Ints:
    """Draw a cell for each pick by inverting the cumulative probabilities, a block of shoppers at a time."""
    picked = np.empty(len(shopper), np.int64)
    chance = rng.random(len(shopper))
    step = max(1, _CHUNK // len(cells))
    for low in range(0, len(lifts[0]), step):
        taste = np.prod([lift[low : low + step, codes] for lift, codes in zip(lifts, cells.T, strict=True)], axis=0)
        here = slice(*np.searchsorted(shopper, (low, low + step)))
        for number in np.unique(month[here]):
            rows = np.flatnonzero(month[here] == number) + here.start
            picked[rows] = _invert(taste * mass[number], shopper[rows] - low, chance[rows])
    return picked


def _invert(likelihood: Floats, row: Ints, chance: Floats) -> Ints:
    """Return a column for each draw, from the distribution in its row of `likelihood` (rows, columns)."""
    summed = likelihood.cumsum(axis=1)
    summed /= summed[:, -1:]
    stacked = (summed + np.arange(len(summed))[:, None]).ravel()
    column: Ints = np.searchsorted(stacked, row + chance, side="right") - row * summed.shape[1]
    return column.clip(max=summed.shape[1] - 1)


def _pick_items(weights: Floats, cell_of: Ints, cell: Ints, month: Ints, rng: np.random.Generator) -> Ints:
    """Draw an item from each picked cell by its weight in the month of the pick."""
    order = np.argsort(cell_of, kind="stable")
    ends = np.searchsorted(cell_of[order], np.arange(cell_of.max() + 1), side="right")
    picked, chance = np.empty(len(cell), np.int64), rng.random(len(cell))
    for number, row in enumerate(weights):
        rows = np.flatnonzero(month == number)
        summed = np.concatenate([[0.0], row[order].cumsum()])
        low, high = summed[np.concatenate([[0], ends])[cell[rows]]], summed[ends[cell[rows]]]
        position = np.searchsorted(summed, low + chance[rows] * (high - low), side="right") - 1
        picked[rows] = order[np.minimum(position, ends[cell[rows]] - 1)]
    return picked


def _follow_up(
    shopper: Ints, item: Ints, times: npt.NDArray[np.datetime64], matched: Floats, rng: np.random.Generator
) -> Interactions:
    """Make each pick a view, some a cart (more if the item matches the taste), half of the carts a purchase."""
    carted = np.flatnonzero(rng.random(len(item)) < 0.12 + 0.4 * matched)
    bought = carted[rng.random(len(carted)) < 0.5]
    rows = np.concatenate([np.arange(len(item)), carted, bought])
    events = np.repeat([0, 1, 2], [len(item), len(carted), len(bought)])
    minutes = np.repeat([0, 300, 900], [len(item), len(carted), len(bought)])
    later = np.minimum(times[rows] + minutes.astype("timedelta64[s]"), END)
    values = np.where((events == 2) & (rng.random(len(rows)) < 0.15), 2.0, 1.0)
    order = np.lexsort((events, shopper[rows], later))
    return Interactions(shopper[rows][order], item[rows][order], events[order], values[order], later[order])


def shopper_ids(count: int) -> list[str]:
    """Return the ids u001, u002 and so on."""
    width = max(3, len(str(count)))
    return [f"u{number:0{width}d}" for number in range(1, count + 1)]


def log_rows(log: Interactions, shoppers: Sequence[str], items: Sequence[str]) -> Iterable[Row]:
    """Return one row of text for each event of a log."""
    return zip(
        np.array(shoppers, dtype=object)[log.shoppers].tolist(),
        np.array(items, dtype=object)[log.items].tolist(),
        np.datetime_as_string(log.times, unit="s").tolist(),
        np.array(EVENTS, dtype=object)[log.events].tolist(),
        np.where(log.values == 2, "2", "1").tolist(),
        strict=True,
    )


def write_log(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows as gzipped CSV. The gzip header has no time, so that equal rows give equal bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
