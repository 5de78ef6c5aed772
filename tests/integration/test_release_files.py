"""The folder of the releases: locking, activation, removal of old files, and killed builds."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from helpers.six_items import documents, given, meta, publish
from numpy.typing import NDArray

from vlm4rec_search import Query, open_index
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.embedded.arrays import Rows, arrays_folder, map_arrays
from vlm4rec_search.indexes.embedded.pointer import (
    activate,
    current_release,
    publishing,
    release_path,
    remove_unfinished,
)
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.release import DamagedIndexError
from vlm4rec_search.indexes.releases import RETAINED


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "releases").iterdir())


def test_one_build_at_a_time(tmp_path: Path) -> None:
    with publishing(tmp_path, "items__one") as path:
        path.touch()
        with pytest.raises(RunError, match="another build is running"):
            publish(tmp_path)
    assert files(tmp_path) == ["items__one.duckdb"]
    assert current_release(tmp_path) == release_path(tmp_path, "items__one")


def test_a_release_is_never_overwritten(tmp_path: Path) -> None:
    name = publish(tmp_path).release
    with pytest.raises(RunError, match="exists already"):
        build_release(tmp_path, given(documents()), replace(meta(), name=name))


def test_activate_accepts_existing_releases_only(tmp_path: Path) -> None:
    first, second = publish(tmp_path).release, publish(tmp_path).release
    activate(tmp_path, first)
    assert current_release(tmp_path) == release_path(tmp_path, first) != release_path(tmp_path, second)
    for name in ("items__gone", "../outside", ""):
        with pytest.raises(UsageError):
            activate(tmp_path, name)


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot write the index folder"):
        publish(tmp_path / "file")


SLOW_BUILD = """
import sys, time
from pathlib import Path
from helpers.six_items import documents, meta, popularity, users, given
from vlm4rec_search.indexes.embedded import publish as build

def hang(path, scans):
    print("built", flush=True)
    time.sleep(60)

build.verify_file = hang
build.build_release(Path(sys.argv[1]), given(documents()), meta())
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_killed_build_leaves_the_pointer_and_its_file_is_removed_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = publish(tmp_path).release
    arguments = [sys.executable, "-c", SLOW_BUILD, str(tmp_path)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    assert process.stdout.readline() == "built\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(files(tmp_path)) == 2
    (left,) = (tmp_path / "releases").glob(".building-*")
    assert (tmp_path / "current").read_text().strip() == before
    time.sleep(0.01)
    after = publish(tmp_path)
    assert (after.added, after.changed, after.deleted) == (0, 0, 0)
    assert files(tmp_path) == sorted([f"{before}.duckdb", f"{after.release}.duckdb"])
    assert [line for line in caplog.messages if "not finished" in line] == [
        f"deleted {left}, which was not finished or had lost its release"
    ]


def test_the_newest_releases_and_the_previous_live_one_are_kept(tmp_path: Path) -> None:
    names = [publish(tmp_path).release for _ in range(RETAINED + 2)]
    assert files(tmp_path) == [f"{name}.duckdb" for name in names[2:]]
    activate(tmp_path, names[2])
    later = publish(tmp_path).release
    assert files(tmp_path) == [f"{name}.duckdb" for name in (*names[2:], later)], "it was live, so it is kept"
    back = replace(meta(), name="items__early__20200101t000000000", created_at=datetime(2020, 1, 1))
    last = build_release(tmp_path, given(documents()), back).release  # the clock was set back since
    assert current_release(tmp_path) == release_path(tmp_path, last)
    with open_index(str(tmp_path)) as index:
        assert index.search(Query(user="u1")).release == last


def test_what_is_left_over_and_cannot_be_removed_ends_no_publication(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays of a removed release may belong to the user of a service."""

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    arrays = arrays_folder(release_path(tmp_path, "items__gone"))
    arrays.mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    last = publish(tmp_path).release
    assert current_release(tmp_path) == release_path(tmp_path, last)
    assert f"{arrays} is left over and cannot be removed (Permission denied): remove it by hand" in caplog.text


def test_arrays_that_a_publication_sweeps_while_they_are_written_are_written_again(tmp_path: Path) -> None:
    release = release_path(tmp_path, publish(tmp_path).release)
    sweeps: list[None] = [None]
    used = []

    def load() -> dict[str, Rows]:
        return {"vectors": Rows((2, 3), batches())}

    def batches() -> Iterator[NDArray[np.float32]]:
        yield np.ones((1, 3), dtype=np.float32)
        if sweeps:
            sweeps.pop()
            remove_unfinished(tmp_path)
        yield np.zeros((1, 3), dtype=np.float32)

    map_arrays(release, load, lambda arrays: used.append(arrays["vectors"].tolist()))
    assert (used, sweeps) == ([[[1.0] * 3, [0.0] * 3]], [])
    assert (arrays_folder(release) / "vectors.npy").is_file(), "other processes share them"


def test_an_old_file_that_cannot_be_removed_fails_the_command_and_not_a_publication(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = release_path(tmp_path, "items__stuck")
    stuck.mkdir(parents=True)  # a folder, which cannot be unlinked, not even by root
    names = [publish(tmp_path).release for _ in range(RETAINED)]
    assert current_release(tmp_path) == release_path(tmp_path, names[-1])
    assert f"cannot be removed, remove them by hand: {stuck}" in caplog.text
    with pytest.raises(RunError, match=f"cannot be removed, remove them by hand: {stuck} "):
        EmbeddedReleases(tmp_path).prune(2)
    assert files(tmp_path) == sorted([stuck.name, *(f"{name}.duckdb" for name in names[-2:])])


def test_pruning_keeps_the_newest_older_release_that_can_be_opened(tmp_path: Path) -> None:
    names = [publish(tmp_path).release for _ in range(4)]
    damaged = release_path(tmp_path, names[2])
    damaged.write_bytes(damaged.read_bytes()[:5_000])
    releases = EmbeddedReleases(tmp_path)
    assert releases.prune(1) == [names[0], names[2]]
    assert releases.rollback(None) == names[1]


def test_pruning_removes_what_a_killed_publication_left_and_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = publish(tmp_path).release
    names = (".building-items__killed.duckdb", f".{'0a' * 16}.part", f".{'0a' * 16}.part.wal")
    left = [tmp_path / "releases" / killed for killed in names]
    for path in left:
        path.touch()
    with caplog.at_level("INFO", "vlm4rec_search"):
        assert EmbeddedReleases(tmp_path).prune(1) == []
    assert files(tmp_path) == [f"{name}.duckdb"]
    for path in left:
        assert f"deleted {path}, which was not finished" in caplog.text


def test_nothing_is_removed_while_the_pointer_is_damaged(tmp_path: Path) -> None:
    names = [publish(tmp_path).release for _ in range(3)]
    (tmp_path / "current").write_bytes(bytes(40))
    with pytest.raises(DamagedIndexError, match="name a release of `vlm4rec releases list`"):
        EmbeddedReleases(tmp_path).prune(1)
    assert files(tmp_path) == [f"{name}.duckdb" for name in names]


def test_copied_files_are_as_old_as_their_releases(tmp_path: Path) -> None:
    names = [publish(tmp_path).release for _ in range(4)]
    for age, name in enumerate(names):
        os.utime(release_path(tmp_path, name), (2e9 - age, 2e9 - age))  # as a copy may leave them, the newest first
    releases = EmbeddedReleases(tmp_path)
    assert releases.prune(2) == names[:2]
    assert releases.rollback(None) == names[2]
