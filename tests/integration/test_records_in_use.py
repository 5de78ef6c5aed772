"""Files of records that another process is writing: `backup` and `publish-tables` wait for it, as writers do."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import duckdb
import pytest

from vlm4rec_search.common import records
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.evaluation.store import create_tables
from vlm4rec_search.pipeline.analysts_copy import RecordFile, publish_tables
from vlm4rec_search.pipeline.backup import write_backup
from vlm4rec_search.pipeline.record import CREATE

WRITER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
"""
READERS: dict[str, Callable[[ExplicitSettings, Path], object]] = {
    "backup": lambda settings, folder: write_backup(settings, folder / "shop.zip"),
    "publish-tables": lambda settings, _: publish_tables(
        settings, [RecordFile("evaluation", settings.results, create_tables)]
    ),
}


@contextmanager
def writing(path: Path, seconds: float) -> Iterator[None]:
    """Let another process write a DuckDB file for so long."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        end = Timer(seconds, other.kill)
        end.start()
        try:
            yield
        finally:
            end.cancel()
            other.kill()


@pytest.fixture
def shop(tmp_path: Path) -> ExplicitSettings:
    """Settings of a shop with an empty warehouse and the record of no publication."""
    names = ("cache", "served", "published", "quality", "recommendations", "results", "data_dir", "forgotten")
    places = {name: tmp_path / name for name in names}
    for name, sql in (("warehouse.duckdb", "CREATE SCHEMA search"), ("releases.duckdb", CREATE)):
        with duckdb.connect(str(tmp_path / name)) as connection:
            connection.execute(sql)
    places |= {name: tmp_path / f"{name}.duckdb" for name in ("warehouse", "releases")}
    return ExplicitSettings(project=None, **places)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_of_records_waits_for_their_writer(shop: ExplicitSettings, tmp_path: Path, reader: str) -> None:
    with writing(shop.releases, 1.0):
        READERS[reader](shop, tmp_path)


@pytest.mark.parametrize("reader", READERS)
def test_a_writer_that_stays_is_told_and_nothing_of_damage(
    shop: ExplicitSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setattr(records, "PATIENCE", 0.2)
    with writing(shop.releases, 60.0), pytest.raises(RunError, match=f"{shop.releases}.*Could not set lock") as told:
        READERS[reader](shop, tmp_path)
    assert "damaged" not in str(told.value)
