"""The built-in shop with its tables: the workers of a run draw and plan it once, and each test gets a copy."""

import fcntl
import os
import shutil

import pytest

from helpers.workspace import Workspace

# A shopper without interactions, and u001 as spreadsheets spell it.
USERS = 'user_id,segment\nnew,gold\n"=""u001""",gold\n'


@pytest.fixture
def planned_shop(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """100 items and 60 shoppers, all of them right."""
    copy_shop(tmp_path_factory, workspace)
    return workspace


def copy_shop(tmp_path_factory: pytest.TempPathFactory, to: Workspace, *, is_dirty: bool = False) -> None:
    """Copy data, warehouse and cache into a workspace; a dirty shop has wrong rows, bad photos and `USERS`."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / f"{'dirty' if is_dirty else 'clean'}_shop"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = Workspace(folder.with_suffix(".making"))
            shutil.rmtree(making.folder, ignore_errors=True)
            making.folder.mkdir()
            kind = "--dirty" if is_dirty else "--clean"
            making.vlm4rec("shop", "--to", "data", "--items", "100", "--shoppers", "60", kind)
            if is_dirty:
                (making.data / "users.csv").write_text(USERS, "utf-8")
            making.plan()
            making.folder.rename(folder)
    shutil.copytree(folder, to.folder, dirs_exist_ok=True)
