"""Tables as of several moments are built over one loaded project, by processes that end with the command."""

from datetime import datetime
from pathlib import Path

import duckdb
import pytest
from helpers.waiting import wait_until
from helpers.workspace import ROOT, Workspace
from sqlmesh import Context

from vlm4rec_search.cli.build_moments import set_moment
from vlm4rec_search.common.concurrency import usable_cores
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings, settings
from vlm4rec_search.evaluation.snapshots import AT_ONCE, plan, workbench


def children(process: int) -> list[int]:
    """Return the ids of the processes that the threads of a process have started."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


MOMENT = "2025-02-20 12:00:00"
_TABLES = """
SELECT table_schema, table_name, list((column_name, data_type) ORDER BY ordinal_position)
FROM information_schema.columns WHERE ends_with(table_schema, '__' || ?) GROUP BY ALL
"""


def tables_of(settings: Settings, environment: str) -> dict[str, object]:
    """Return the columns, and number and hash of the rows, of each table of an environment."""
    with duckdb.connect(str(settings.warehouse), read_only=True) as connection:
        tables = connection.execute(_TABLES, [environment]).fetchall()
        rows = "SELECT COUNT(*), SUM(hash(rows)) FROM {}.{} AS rows"
        return {
            f"{layer.partition('__')[0]}.{name}": (columns, connection.execute(rows.format(layer, name)).fetchone())
            for layer, name, columns in tables
        }


def test_the_tables_of_a_moment_are_those_of_a_plan(planned_shop: Workspace) -> None:
    with planned_shop.inside(), workbench(settings()) as bench:
        bench.build_moments({"Built": datetime.fromisoformat(MOMENT)})
        built = tables_of(bench.settings_of("Built"), "built")
        of_moment = bench.settings.model_copy(update={"as_of": datetime.fromisoformat(MOMENT)})
        plan(of_moment, "planned")
        planned = tables_of(bench.settings, "planned")
    assert built == planned
    assert {name.partition(".")[0] for name in built} == {
        "raw", "staging", "captions", "histories", "profiles", "embeddings", "search"
    }  # fmt: skip


def test_tables_older_than_the_models_are_told(planned_shop: Workspace) -> None:
    with planned_shop.inside(), workbench(settings()) as bench:
        with duckdb.connect(str(bench.settings.warehouse)) as connection:
            connection.execute("DROP VIEW staging.rejected_users")
        with pytest.raises(RunError, match="rejected_users does not exist!: the models are newer than the tables, run"):
            bench.build_moments({"built": datetime.fromisoformat(MOMENT)})


def test_a_terminated_command_leaves_no_plans_and_no_copies_of_the_warehouse(planned_shop: Workspace) -> None:
    running = planned_shop.start("vlm4rec", "evaluate", "--systems", "ease,popularity")
    wait_until(lambda: running.poll() is not None or len(children(running.pid)) == min(AT_ONCE, usable_cores()))
    plans = children(running.pid)
    running.terminate()
    _, told = running.communicate(timeout=30)
    assert (running.returncode, told.splitlines()[-1]) == (1, "Error: stopped; finished work is kept")
    assert plans
    assert [plan for plan in plans if Path(f"/proc/{plan}").exists()] == []
    assert list((planned_shop.folder / ".cache" / "vlm4rec").glob("evaluation-*")) == []


def versions(context: Context) -> dict[str, object]:
    """Return the fingerprint of each model, from which SQLMesh makes the name of its table."""
    return {name: snapshot.fingerprint for name, snapshot in context.snapshots.items()}


def test_a_moved_project_has_the_tables_of_one_that_is_loaded_anew(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = versions(context)
    fixture = settings()
    monkeypatch.setenv("VLM4REC_DATA_DIR", str(fixture.data_dir))
    monkeypatch.setenv("VLM4REC_WAREHOUSE", str(fixture.warehouse))
    monkeypatch.setenv("VLM4REC_CACHE", str(fixture.cache))
    monkeypatch.setenv("VLM4REC_AS_OF", "2025-03-01 12:30:00.25")
    settings.cache_clear()
    set_moment(context)
    moved = versions(context)
    assert moved == versions(Context(paths=[str(ROOT)]))
    assert moved.keys() == before.keys()
    assert moved != before
    monkeypatch.delenv("VLM4REC_AS_OF")
    settings.cache_clear()
    set_moment(context)
    assert versions(context) == before
