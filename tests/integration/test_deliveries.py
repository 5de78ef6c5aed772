"""Daily deliveries: what plans made of one after another is what one plan makes of all files at once."""

import csv
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from helpers.spark import needs_spark, use_spark
from helpers.two_engines import check_tables
from helpers.workspace import Workspace

START = datetime(2026, 3, 1)
SHOPPERS, ITEMS, EVENTS = 40, 60, 60
LAYERS = ("raw", "staging", "histories", "captions", "embeddings", "profiles", "search")


def day(number: int) -> str:
    return f"{START + timedelta(days=number):%Y-%m-%d}"


class Deliveries:
    """A shop that delivers the folder `interactions` day by day, with late, corrected and withdrawn days."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._folder = folder / "interactions"
        self._days = 0
        self._write(folder / "items.csv", ("item_id", "title", "category"), [
            (f"i{item:02d}", f"{('navy', 'red', 'oak')[item % 3]} thing {item}", f"kind {item % 4}")
            for item in range(ITEMS)
        ])  # fmt: skip
        for _ in range(4):
            self.new_day()

    def new_day(self) -> None:
        self._deliver(self._days, "part.csv")
        self._days += 1

    def late_rows(self) -> None:
        """Deliver a second file of a day in the past."""
        number = self._some_day()
        self._deliver(number, f"late-{len(list(self._of(number).iterdir()))}.csv")

    def correction(self) -> None:
        """Deliver a day again, with other rows."""
        self._deliver(self._some_day(), "part.csv")

    def withdrawal(self) -> None:
        """Remove a day."""
        shutil.rmtree(self._of(self._some_day()), ignore_errors=True)

    def broken_rows(self) -> None:
        """Deliver a day with an unknown item, a time that is none, and a line of too many values."""
        number = self._some_day()
        bad = [
            ("u01", "nothing", f"{day(number)} 10:00:00"),
            ("u02", "i01", "yesterday"),
            ("u03", "i02", "x", "y", "z"),
        ]
        self._write(self._of(number) / "broken.csv", ("user_id", "item_id", "timestamp"), bad)

    def any(self) -> str:
        kinds = (self.new_day, self.new_day, self.late_rows, self.correction, self.withdrawal, self.broken_rows)
        kind = kinds[self._draw.integers(len(kinds))]
        kind()
        return kind.__name__

    def _some_day(self) -> int:
        return int(self._draw.integers(0, self._days - 1))

    def _of(self, number: int) -> Path:
        folder = self._folder / f"date={day(number)}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _deliver(self, number: int, name: str) -> None:
        rows = [
            (f"u{self._draw.integers(SHOPPERS):02d}", f"i{self._draw.integers(ITEMS):02d}",
             f"{START + timedelta(days=number, seconds=int(self._draw.integers(86_400)))}")
            for _ in range(EVENTS)
        ]  # fmt: skip
        self._write(self._of(number) / name, ("user_id", "item_id", "timestamp"), rows)

    @staticmethod
    def _write(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


def tables(workspace: Workspace) -> dict[str, list[tuple[object, ...]]]:
    names = workspace.query(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables"
        f" WHERE table_schema IN {LAYERS} ORDER BY ALL"
    )
    return {name: workspace.query(f"SELECT * FROM {name} ORDER BY ALL") for (name,) in names}


@pytest.mark.long
def test_deliveries_one_after_another_equal_one_plan_of_all(workspace: Workspace) -> None:
    """Late rows, corrected days, withdrawn days and broken rows; a plan follows each delivery."""
    deliver_twenty(workspace)
    assert workspace.query("SELECT COUNT(*) > 0 FROM staging.rejected_interactions") == [(True,)]
    found = tables(workspace)
    assert len(found) > 40

    for made in (".cache", "warehouse.duckdb"):
        path = workspace.folder / made
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    workspace.plan()
    whole = tables(workspace)
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []


@pytest.mark.long
@needs_spark
def test_deliveries_to_spark_equal_one_plan_of_all_on_duckdb(workspace: Workspace, tmp_path: Path) -> None:
    """The models that read days are planned after each delivery, and all models at the end."""
    use_spark(workspace)
    deliver_twenty(workspace, *(f"--select-model={layer}.*" for layer in ("raw", "staging", "histories")))
    workspace.plan()
    workspace.vlm4rec("fetch-tables")

    on_duckdb = Workspace(tmp_path / "duckdb")
    on_duckdb.folder.mkdir()
    on_duckdb.data.symlink_to(workspace.data)
    on_duckdb.plan()
    check_tables(on_duckdb, workspace)


def deliver_twenty(workspace: Workspace, *options: str) -> None:
    """Plan after each of twenty deliveries of every kind."""
    shop = Deliveries(workspace.data, seed=5)
    workspace.plan(*options)
    kinds = set()
    for _ in range(20):
        kinds.add(shop.any())
        workspace.plan(*options)
    assert kinds == {"new_day", "late_rows", "correction", "withdrawal", "broken_rows"}
