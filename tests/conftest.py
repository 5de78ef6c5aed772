"""Fixtures that every test may use: a workspace for whole commands, and the SQLMesh context of the project."""

import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import patch

import pytest
from helpers.workspace import ROOT, Workspace
from sqlmesh import Context

from vlm4rec_search.common.settings import settings

pytest_plugins = [
    "helpers.opensearch_server",
    "helpers.backends",
    "helpers.server_releases",
    "helpers.backend_pair",
    "helpers.colour_catalogue",
    "helpers.planned_shop",
]

# PySpark takes a main module without a name and a file, as the workers of xdist have, for a run of its own doctests,
# and ends the process that imports it, as Great Expectations does.
if sys.modules["__main__"].__spec__ is None:
    sys.modules["__main__"].__spec__ = ModuleSpec("__main__", None)


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    """What a test has read of the environment does not reach the next one."""
    yield
    settings.cache_clear()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty folder in which whole commands run with settings of their own."""
    return Workspace(tmp_path)


@pytest.fixture
def in_process(workspace: Workspace) -> None:
    """`vlm4rec` starts no process; see `Workspace`."""
    workspace.in_process = True


@pytest.fixture(scope="session")
def loaded_project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, dict[str, str]]:
    """The SQLMesh project with the fixture data and without the user's settings, and the environment that it needs."""
    folder = tmp_path_factory.mktemp("context")
    with patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("VLM4REC_")]:
            del os.environ[name]
        os.environ["VLM4REC_DATA_DIR"] = str(ROOT / "tests" / "data" / "raw")
        os.environ["VLM4REC_WAREHOUSE"] = str(folder / "warehouse.duckdb")
        os.environ["VLM4REC_CACHE"] = str(folder / "cache")
        os.environ["VLM4REC_SERVED"] = str(folder / "served")
        settings.cache_clear()
        context = Context(paths=[str(ROOT)])
        return context, dict(os.environ)


@pytest.fixture
def context(loaded_project: tuple[Context, dict[str, str]]) -> Iterator[Context]:
    """The SQLMesh project; its environment is that of the test, and of no later one."""
    context, environment = loaded_project
    with patch.dict(os.environ, environment, clear=True):
        settings.cache_clear()
        yield context


@pytest.fixture
def hashing_encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings name the encoder of the six items, so that a command can open their releases."""
    monkeypatch.setenv("VLM4REC_ENCODER", "hashing-4")
    settings.cache_clear()
    yield
    settings.cache_clear()
