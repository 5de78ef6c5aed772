"""The files of the embedded index: one immutable file per release, and a pointer that is replaced in one step.

    index/current                            name of the live release
    index/releases/<name>.duckdb             a complete, verified release, which is never written again
    index/releases/<name>.arrays-3/          its arrays, where they are mapped from files; see `arrays.py`
    index/releases/.building-<name>.duckdb   a release that is being built, or a file that a killed build left
    index/releases/.open-<id>.duckdb         a link for the moment in which a process opens a file that was replaced

A reader opens the file that the pointer names and keeps reading it when the pointer changes.
"""

import fcntl
import logging
import re
import shutil
from collections.abc import Collection, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from vlm4rec_search.common.erase import ERASING
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import PARTS, replacing_file, write_lock
from vlm4rec_search.indexes.embedded.arrays import arrays_folder
from vlm4rec_search.indexes.embedded.listing import list_releases
from vlm4rec_search.indexes.embedded.store import OPENED
from vlm4rec_search.indexes.release import CURE, DamagedIndexError, activated_meanwhile
from vlm4rec_search.indexes.releases import RETAINED

logger = logging.getLogger(__name__)

POINTER = "current"
_BUILDING = ".building-"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def release_path(folder: Path, name: str) -> Path:
    """Return the file of a release.

    Raises:
        UsageError: the text cannot be the name of a release.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not the name of a release")
    return folder / "releases" / f"{name}.duckdb"


def current_release(folder: Path) -> Path | None:
    """Return the file of the live release, None where nothing is published yet.

    Raises:
        DamagedIndexError: the pointer is damaged, or names a file that does not exist.
    """
    if (name := live_name(folder)) is None:
        return None
    path = release_path(folder, name)
    if not path.is_file():
        raise DamagedIndexError(f"{folder / POINTER} names the release {name}, which is gone: {CURE}")
    return path


def live_name(folder: Path) -> str | None:
    """Return the name in the pointer, None where nothing is published yet; its file need not exist.

    Raises:
        DamagedIndexError: the pointer is damaged.
    """
    try:
        name = (folder / POINTER).read_text(encoding="utf-8").strip()
        if _NAME.fullmatch(name):
            return name
        reason = "it holds no name of a release"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error)
    raise DamagedIndexError(
        f"cannot read {folder / POINTER} ({reason}): name a release of `vlm4rec releases list` to `vlm4rec releases"
        " rollback`, or publish again with `vlm4rec index`"
    )


def activate(folder: Path, name: str) -> None:
    """Let the pointer name another release, in one step; open readers keep their release.

    Raises:
        UsageError: there is no such release.
    """
    if not release_path(folder, name).is_file():
        raise UsageError(f"there is no release {name} in {folder}")
    with replacing_file(folder / POINTER, durable=True) as part:
        part.write_text(f"{name}\n", encoding="utf-8")


@contextmanager
def publishing(folder: Path, name: str, force: bool = False, kept: Collection[str] = ()) -> Iterator[Path]:
    """Yield the temporary file of a build, and make it the live release when the block ends without an error.

    The lock of the folder is held until the new release is live, so that the build that began last is live in the end.
    Files of killed builds are removed first, releases older than the newest `RETAINED` last. A block that raises leaves
    no file behind.

    Args:
        folder: of the index.
        name: of the release.
        force: also where another release was activated while this one was built.
        kept: releases that stay, however old they are.

    Raises:
        RunError: another build is running, the release exists, or the folder cannot be written; or another release was
            activated meanwhile, and the new one is complete but not live.
    """
    final = release_path(folder, name)
    with folder_lock(folder):
        before = _pointer_text(folder)
        _try_to_remove_unfinished(folder)
        if final.exists():
            raise RunError(f"the release {name} exists already: build again for a new name")
        temporary = final.with_name(f"{_BUILDING}{final.name}")
        try:
            yield temporary
            temporary.replace(final)
            with pointer_lock(folder):
                previous = _pointer_text(folder)
                if previous != before and not force:
                    raise RunError(activated_meanwhile(previous, name))
                activate(folder, name)
                try:
                    remove_old(folder, {name, previous or name, *kept}, RETAINED)
                except RunError as error:  # the release is live all the same
                    logger.warning("%s", error)
        finally:
            _try_to_remove_unfinished(folder)


@contextmanager
def pointer_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from activating or removing releases while the block runs; a build is not waited for.

    Raises:
        RunError: the folder cannot be written.
    """
    with write_lock(folder / ".pointer-lock", f"the index folder {folder}"):
        yield


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder, which is created where it is missing.

    Raises:
        RunError: a build is running, or the folder cannot be written.
    """
    try:
        (folder / "releases").mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(f"cannot write the index folder {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"another build is running in {folder}: wait until it has ended") from None
        yield


def _pointer_text(folder: Path) -> str | None:
    """Return what the pointer holds, None where it cannot be read."""
    try:
        return (folder / POINTER).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def remove_old(folder: Path, needed: Container[str], retained: int) -> list[str]:
    """Remove all but the newest and the needed releases, and return the names of the removed ones.

    A reader that has a removed file open keeps reading it.

    Raises:
        RunError: one of them cannot be removed; the others are.
    """
    old = [name for name in [*list_releases(folder)][:-retained] if name not in needed]
    failed = []
    for path in (release_path(folder, name) for name in old):
        try:
            path.unlink(missing_ok=True)
            if (arrays := arrays_folder(path)).is_dir():
                shutil.rmtree(arrays)
        except OSError as error:
            failed.append(f"{error.filename or path} ({error.strerror})")
    if failed:
        raise RunError(f"these old files cannot be removed, remove them by hand: {', '.join(failed)}")
    return old


def _try_to_remove_unfinished(folder: Path) -> None:
    """Remove it, or say what stays: that is no reason against a publication, and does not hide why one failed."""
    try:
        remove_unfinished(folder)
    except RunError as error:
        logger.warning("%s", error)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have left, and arrays without a release, while the lock of the folder is held.

    A process that is just opening a link, or writing arrays, has to try again.

    Raises:
        RunError: something cannot be removed.
    """
    names = (PARTS, *(f"{begin}*" for begin in (_BUILDING, OPENED, ERASING)))
    left = [path for name in names for path in folder.glob(f"releases/{name}")]
    left += [path for path in folder.glob("releases/[!.]*.arrays-*") if not path.with_suffix(".duckdb").is_file()]
    try:
        for unfinished in left:
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            else:
                unfinished.unlink(missing_ok=True)
            logger.info("deleted %s, which was not finished or had lost its release", unfinished)
    except OSError as error:
        place = error.filename or folder
        raise RunError(f"{place} is left over and cannot be removed ({error.strerror}): remove it by hand") from None
