"""Releases of the embedded index: one immutable file each, and a pointer that is replaced in one step.

    index/current                            the name of the release that answers
    index/releases/<name>.duckdb             complete, verified, never written again
    index/releases/.building-<name>.duckdb   what a running or killed build left

Readers open the file that the pointer names and keep it, whatever happens to the pointer afterwards.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.releases import KEPT

POINTER = "current"
_BUILDING = ".building-"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def release_path(folder: Path, name: str) -> Path:
    """Return the file of a release.

    Raises:
        UsageError: the text is no name of a release.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not the name of a release")
    return folder / "releases" / f"{name}.duckdb"


def current_release(folder: Path) -> Path | None:
    """Return the file of the release that answers, None where nothing is published yet.

    Raises:
        UsageError: the pointer is damaged or names a file that is not there.
    """
    try:
        name = (folder / POINTER).read_text(encoding="utf-8").strip()
        if not _NAME.fullmatch(name):
            raise UsageError(f"{folder / POINTER} is damaged: publish again with `vlm4rec index`")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {folder / POINTER} ({error}): publish again with `vlm4rec index`") from None
    path = release_path(folder, name)
    if not path.is_file():
        raise UsageError(f"{folder / POINTER} names the release {name}, which is gone: publish with `vlm4rec index`")
    return path


def switch(folder: Path, name: str) -> None:
    """Let the pointer name another release, in one step; readers that are open go on with theirs.

    Raises:
        UsageError: there is no such release.
    """
    if not release_path(folder, name).is_file():
        raise UsageError(f"there is no release {name} in {folder}")
    temporary = folder / f".{POINTER}-{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / POINTER)


@contextmanager
def publishing(folder: Path, name: str) -> Iterator[Path]:
    """Yield the temporary file of a build; when the block ends well it has become the release that answers.

    Only one build runs in a folder at a time, the switch included, so that the last one to begin is the one that
    answers; what killed builds left is removed first, and releases older than the newest `KEPT` last. A block that
    raises leaves no file behind.

    Raises:
        RunError: another build is running, the release exists, or the folder cannot be written.
    """
    final = release_path(folder, name)
    with alone(folder):
        _sweep(final.parent)
        if final.exists():
            raise RunError(f"the release {name} exists already: build again for a new name")
        temporary = final.with_name(f"{_BUILDING}{final.name}")
        try:
            yield temporary
            temporary.replace(final)
            answered = _target(folder)
            switch(folder, name)
            _prune(folder, {name, answered, _target(folder)}, KEPT)
        finally:
            _sweep(final.parent)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder, which is made where it is missing.

    Raises:
        RunError: a build is running, or the folder cannot be written.
    """
    try:
        (folder / "releases").mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(f"cannot write the index folder {folder}: {error.strerror}") from None
    with lock:
        _lock(lock.fileno(), folder)
        yield


def prune(folder: Path, kept: int) -> list[str]:
    """Remove all but the newest `kept` releases, and return their names.

    The release that answers stays, and the one before it in age.

    Raises:
        RunError: a build is running, or the folder cannot be written.
    """
    with alone(folder):
        names, live = [path.stem for path in _by_age(folder)], _target(folder)
        before = names[: names.index(live)][-1:] if live in names else []
        return _prune(folder, {live, *before}, kept)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(f"another build is running in {folder}: wait until it has ended") from None


def _target(folder: Path) -> str | None:
    """Return the name that the pointer holds, None where it holds none."""
    try:
        return (folder / POINTER).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _prune(folder: Path, needed: set[str | None], kept: int) -> list[str]:
    """Remove all but the newest releases; whoever has one of the others open goes on reading it.

    The release that answers and the one that answered before it stay, however old somebody made them by a rollback.
    """
    old = [path for path in _by_age(folder)[:-kept] if path.stem not in needed]
    for path in old:
        with suppress(OSError):  # a publication that has ended well must not end badly over this
            path.unlink()
    return [path.stem for path in old]


def _by_age(folder: Path) -> list[Path]:
    files = (folder / "releases").glob("[!.]*.duckdb")
    return sorted(files, key=lambda path: (path.stat().st_mtime, path.name))


def _sweep(releases: Path) -> None:
    for left in releases.glob(f"{_BUILDING}*"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
