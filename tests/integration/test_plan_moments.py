"""Tables as of several moments are planned over one loaded project, by processes that end with the command."""

from pathlib import Path

import pytest
from helpers.waiting import wait_until
from helpers.workspace import ROOT, Workspace
from sqlmesh import Context

from vlm4rec_search.cli.plan_moments import set_moment
from vlm4rec_search.common.concurrency import usable_cores
from vlm4rec_search.common.settings import settings
from vlm4rec_search.evaluation.snapshots import AT_ONCE


def children(process: int) -> list[int]:
    """Return the ids of the processes that the threads of a process have started."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


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
