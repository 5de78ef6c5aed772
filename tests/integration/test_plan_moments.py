"""Tables as of several moments are planned over one loaded project."""

import pytest
from helpers.workspace import ROOT
from sqlmesh import Context

from vlm4rec_search.cli.plan_moments import set_moment
from vlm4rec_search.common.settings import settings


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
