"""Simulated shoppers: their tastes, the times of their events, and the marker of simulated files."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.demo_shop.shoppers import (
    END,
    START,
    Interactions,
    ItemTraits,
    season_of_month,
    simulate_log,
)
from vlm4rec_search.datasets.demo_shop.simulate import simulate

SHOPPERS = 2000


def make_items(launch: int = 0) -> ItemTraits:
    """Forty equal items, ten of each of four values; the last ten appear after `launch` months."""
    codes = np.repeat(np.arange(4), 10)[:, None]
    launches = np.where(codes[:, 0] == 3, launch, 0)
    return ItemTraits(codes, np.ones(40), np.full(40, -1), launches)


@pytest.fixture(scope="module")
def log() -> Interactions:
    return simulate_log(make_items(), SHOPPERS, np.random.default_rng(5))


def test_histories_are_long_tailed_and_every_shopper_has_one(log: Interactions) -> None:
    lengths = np.bincount(log.shoppers[log.events == 0], minlength=SHOPPERS)
    assert lengths.min() == 1
    assert 6 <= np.median(lengths) <= 9
    assert lengths.max() > 8 * np.median(lengths)


def test_a_favourite_value_gets_its_share(log: Interactions) -> None:
    """Favourite and second favourite are drawn from 4 values and equal with chance 1/4: 0.55 + 0.2 / 4 + 0.25 / 4."""
    views = log.events == 0
    counts = np.zeros((SHOPPERS, 4))
    np.add.at(counts, (log.shoppers[views], log.items[views] // 10), 1)
    busy = counts[counts.sum(axis=1) >= 30]
    share = (busy.max(axis=1) / busy.sum(axis=1)).mean()
    assert share == pytest.approx(0.6625, abs=0.03)


def test_times_stay_in_the_year_and_in_order(log: Interactions) -> None:
    assert log.times.min() >= START
    assert log.times.max() <= END
    assert (np.diff(log.times) >= np.timedelta64(0, "s")).all()


def test_events_are_views_some_carts_and_half_as_many_purchases(log: Interactions) -> None:
    views, carts, purchases = np.bincount(log.events)
    assert 0.12 < carts / views < 0.52
    assert purchases / carts == pytest.approx(0.5, abs=0.03)


def test_items_get_no_views_before_their_launch() -> None:
    log = simulate_log(make_items(launch=9), 300, np.random.default_rng(5))
    late = log.times[log.items >= 30]
    assert len(late) > 0
    assert late.min() >= np.datetime64("2025-04-01")


def test_seasonal_items_sell_in_their_season() -> None:
    """The year starts in July. From December on, the winter item has weight 2.0 and the other, equal item 0.6."""
    assert season_of_month().tolist() == [1, 1, 2, 2, 2, 3, 3, 3, 0, 0, 0, 1]
    two = ItemTraits(np.zeros((2, 1), np.int64), np.ones(2), np.array([1, 3]), np.zeros(2, np.int64))
    log = simulate_log(two, 3000, np.random.default_rng(5))
    winter = (log.times >= np.datetime64("2024-12-01")) & (log.times < np.datetime64("2025-03-01"))
    assert log.items[winter].mean() == pytest.approx(2.0 / 2.6, abs=0.03)


def test_a_favourite_value_is_picked_although_it_is_rare() -> None:
    """One item has value 1 and 99 have value 0: value 1 is still the favourite of half of the shoppers."""
    rare = ItemTraits(
        (np.arange(100) == 0).astype(np.int64)[:, None], np.ones(100), np.full(100, -1), np.zeros(100, np.int64)
    )
    log = simulate_log(rare, 3000, np.random.default_rng(5))
    assert (log.items[log.events == 0] == 0).mean() == pytest.approx(0.5 * 0.55 + 0.5 * 0.2 + 0.25 * 0.01, abs=0.03)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    lines = [
        f'{number:04d},Thing {number},"{("red", "blue")[number % 2]}",{"AB"[number // 30]}' for number in range(60)
    ]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,colour,category", *lines, ""]))
    return tmp_path


def test_simulate_writes_a_log_and_a_marker(catalogue: Path) -> None:
    summary = simulate(catalogue, 40, ["colour", "category"], seed=2)
    with gzip.open(catalogue / "interactions.csv.gz", "rt") as file:
        written = list(csv.DictReader(file))
    assert len(written) == summary.interactions
    assert {row["item_id"] for row in written} <= {f"{number:04d}" for number in range(60)}
    assert len({row["user_id"] for row in written}) == 40
    about = json.loads((catalogue / "SIMULATED.json").read_text())
    assert about["simulated"] == "The shoppers of interactions.csv.gz are simulated; no person did this."
    assert (about["taste"], about["items"], about["seed"]) == (["colour", "category"], 60, 2)


def test_simulated_histories_can_be_repeated_byte_for_byte(catalogue: Path) -> None:
    simulate(catalogue, 40, ["colour"], seed=2)
    first = (catalogue / "interactions.csv.gz").read_bytes()
    simulate(catalogue, 40, ["colour"], seed=3)
    assert (catalogue / "interactions.csv.gz").read_bytes() != first
    simulate(catalogue, 40, ["colour"], seed=2)
    assert (catalogue / "interactions.csv.gz").read_bytes() == first


def test_the_command_says_that_it_is_simulated(catalogue: Path) -> None:
    answer = CliRunner().invoke(main, ["simulate", "--data", str(catalogue), "--taste", "colour, category"])
    assert answer.exit_code == 0
    assert "SIMULATED interactions of 300 shoppers with 60 items; tastes follow colour, category" in answer.stdout


@pytest.mark.parametrize("name", ["interactions.csv.gz", "interactions.parquet"])
def test_real_interactions_are_never_overwritten(catalogue: Path, name: str) -> None:
    (catalogue / name).write_bytes(b"real")
    with pytest.raises(UsageError, match="was not simulated"):
        simulate(catalogue, 40, ["colour"], seed=2)
    assert (catalogue / name).read_bytes() == b"real"
    assert not (catalogue / "SIMULATED.json").exists()


def test_wrong_calls_are_refused_in_one_line(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(UsageError, match="no column flavour; it has item_id, title, colour, category"):
        simulate(catalogue, 40, ["flavour"], seed=2)
    with pytest.raises(UsageError, match="at least 1 shopper"):
        simulate(catalogue, 0, ["colour"], seed=2)
    with pytest.raises(UsageError, match="holds no items table"):
        simulate(tmp_path_factory.mktemp("empty"), 40, ["colour"], seed=2)
