"""Tables as of several moments are built over one loaded project, by processes that end with the command."""

import shutil
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


def is_running(process: int) -> bool:
    """Return whether a process runs: one that has ended stays until its parent, or the first of the machine, looks."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return False


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


OWN = {
    "macro.sql": """MODEL (name own.doubled, kind FULL, ignored_rules ALL);
        CREATE OR REPLACE TEMP MACRO twice(x) AS x * 2;
        SELECT twice(COUNT(*))::BIGINT AS rows FROM histories.user_histories""",
    "embedded.sql": """MODEL (name own.events, kind EMBEDDED, ignored_rules ALL);
        SELECT histories.user_id, histories.interacted_at FROM histories.user_histories AS histories""",
    "days.sql": """MODEL (name own.days, kind INCREMENTAL_BY_TIME_RANGE (time_column interacted_at), ignored_rules ALL);
        SELECT events.user_id, events.interacted_at, @execution_dt::TIMESTAMP AS built_at FROM own.events AS events
        WHERE events.interacted_at BETWEEN @start_dt AND @end_dt""",
    "read.sql": """MODEL (name own.read, kind FULL, ignored_rules ALL);
        SELECT
          MAX(days.built_at)::TIMESTAMP AS built_at, COUNT(*)::BIGINT AS events, ANY_VALUE(doubled.rows)::BIGINT AS rows
        FROM own.days AS days CROSS JOIN own.doubled AS doubled""",
    "unread.sql": """MODEL (name profiles.unread, ignored_rules ALL,
        kind SCD_TYPE_2_BY_COLUMN (unique_key user_id, columns [user_id]));
        SELECT DISTINCT events.user_id FROM own.events AS events""",
}


def test_models_of_a_shop_are_run_where_a_model_of_the_product_reads_them(planned_shop: Workspace) -> None:
    project = planned_shop.folder / "project"
    for name in ("models", "macros", "audits"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "config.py", project)
    (project / "models" / "own").mkdir()
    for name, text in OWN.items():
        (project / "models" / "own" / name).write_text(text, "utf-8")
    edited = project / "models" / "profiles" / "repeat_items.sql"
    reading = " AND (SELECT COUNT(*) FROM {} AS own) > 0"
    query = edited.read_text("utf-8").rstrip()
    edited.write_text(query + reading.format("own.read"), "utf-8")
    planned_shop.settings["VLM4REC_PROJECT"] = str(project)
    with planned_shop.inside(), workbench(settings()) as bench:
        bench.build_moments({"built": datetime.fromisoformat(MOMENT)})
        with duckdb.connect(str(bench.settings_of("built").warehouse), read_only=True) as connection:
            (own,) = connection.execute("SELECT * FROM own__built.read").fetchall()
            (events,) = connection.execute("SELECT COUNT(*) FROM histories__built.user_histories").fetchone() or ()
        assert own == (datetime.fromisoformat(MOMENT), events, 2 * events)
        assert events > 0
        edited.write_text(query + reading.format("profiles.unread"), "utf-8")
        with pytest.raises(RunError, match=r"profiles\.unread: a model of the kind SCD_TYPE_2_BY_COLUMN cannot be run"):
            bench.build_moments({"built": datetime.fromisoformat(MOMENT)})


@pytest.mark.long
def test_what_is_wrong_with_models_and_tables_is_told(planned_shop: Workspace) -> None:
    with planned_shop.inside(), workbench(settings()) as bench:
        with duckdb.connect(str(bench.settings.warehouse)) as connection:
            connection.execute("DROP VIEW staging.rejected_users")
        told = r"staging\.rejected_users: Catalog Error: .* does not exist!; if models have changed since the last plan"
        with pytest.raises(RunError, match=told):
            bench.build_moments({"built": datetime.fromisoformat(MOMENT)})


def test_a_terminated_command_leaves_no_plans_and_no_copies_of_the_warehouse(planned_shop: Workspace) -> None:
    running = planned_shop.start("vlm4rec", "evaluate", "--systems", "ease,popularity")
    wait_until(lambda: running.poll() is not None or len(children(running.pid)) == min(AT_ONCE, usable_cores()))
    plans = children(running.pid)
    # SQLMesh loads a project in processes of its own.
    wait_until(lambda: running.poll() is not None or all(map(children, plans)))
    started = [*plans, *(each for plan in plans for each in children(plan))]
    running.terminate()
    _, told = running.communicate(timeout=30)
    assert (running.returncode, told.splitlines()[-1]) == (1, "Error: stopped; finished work is kept")
    assert len(started) > len(plans) > 0
    wait_until(lambda: not any(is_running(each) for each in started))
    assert list((planned_shop.folder / ".cache" / "vlm4rec").glob("vlm4rec-working-*")) == []


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
