"""One file with what cannot be made again: paid results and their ledger, fetched photos, the records of releases,
checks and evaluations, the list of forgotten shoppers, and captions that people wrote.

Everything else follows from the data folder and the project: tables by `sqlmesh plan`, a release by `vlm4rec index`.
"""

import logging
import re
import shutil
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from pydantic import BaseModel, ValidationError

from vlm4rec_search.common.cache import FILE
from vlm4rec_search.common.errors import RunError, UsageError, first_line, one_line
from vlm4rec_search.common.paths import replacing_file, working_folder
from vlm4rec_search.common.records import is_in_use, when_free
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.sql import quote_text
from vlm4rec_search.common.version import package_version
from vlm4rec_search.common.warehouse import detach, replacing_database
from vlm4rec_search.datasets.events.compaction import events_lock
from vlm4rec_search.datasets.forgotten import forgotten_lock, load_forgotten, save_forgotten
from vlm4rec_search.pipeline.quality import history

logger = logging.getLogger(__name__)

EDITS = Path("caption_edits.csv")
"""Where captions that people wrote are restored to, if no setting names a file."""

_CONTENTS = "backup.json"
_LOG = "events.sqlite"
_PHOTO = r"photos/[0-9a-f]{2}/[0-9a-f]{64}"
_REPLACE = "move it away if it is damaged, and take it from an earlier backup, which is a zip file"
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_EVENTS = r"events/(interactions|others)/\d{4}-\d\d-\d\d\.parquet"


class _Contents(BaseModel):
    version: str
    created_at: str
    files: list[str]


@dataclass(frozen=True)
class _Part:
    """A file by its name in a backup.

    Attributes:
        path: outside of the backup.
        copy: makes a consistent copy of `path` at another path.
        replace: makes `path` a copy of another file.
        joins: whether `replace` keeps what is in a file that is there, also with `force`.
    """

    path: Path
    copy: Callable[[Path, Path], None]
    replace: Callable[[Path, Path], None]
    joins: bool = False


def write_backup(settings: Settings, target: Path, force: bool = False) -> dict[str, int]:
    """Write a backup and return the size in bytes of each file in it. Runs and plans may go on meanwhile.

    Args:
        settings: name the files.
        target: a zip file.
        force: whether to replace an existing file.

    Raises:
        UsageError: `target` exists, there is nothing to back up, or the list of forgotten shoppers cannot be read.
        RunError: a file cannot be read: it is damaged, or another process keeps it open for writing.
    """
    if target.exists() and not force:
        raise UsageError(f"{target} exists: name another file, or replace it with --force")
    if next(_present(settings), None) is None:
        raise UsageError(f"there is nothing to back up: {settings.cache} has no results, and there is no record")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
        unfinished, sizes = Path(folder) / "backup.zip", {}
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, part in _present(settings):
                copy = Path(folder) / "copy"
                with _explain_errors(part.path):
                    part.copy(part.path, copy)
                archive.write(copy, name)
                sizes[name] = copy.stat().st_size
                copy.unlink()
            now = datetime.now(UTC).isoformat(timespec="seconds")
            contents = _Contents(version=package_version(), created_at=now, files=list(sizes))
            archive.writestr(_CONTENTS, contents.model_dump_json(indent=1))
        unfinished.replace(target)
    return sizes


def restore_backup(settings: Settings, source: Path, force: bool = False) -> dict[str, Path]:
    """Put the files of a backup where the settings have them, and return the path of each that was written.

    The whole backup is read before the first file is written. A list of forgotten shoppers that is there keeps all who
    are on it, and gets those of the backup: neither may bring back whom the other forgets.

    Args:
        settings: name the files.
        source: a file of `write_backup`.
        force: whether to replace existing files.

    Raises:
        UsageError: a file exists already, `source` is no backup, its list of forgotten shoppers is damaged and there
            is no other, or the two lists cannot become one; nothing is written then.
        RunError: the backup is damaged, or a file cannot be written.
    """
    with working_folder(settings.cache) as folder:
        names = _extract(settings, source, folder)
        parts = {name: part for name, part in _parts(settings, names).items() if name in names}
        replaced = [part.path for name, part in parts.items() if not (part.joins or re.fullmatch(_PHOTO, name))]
        taken = [path for path in replaced if path.exists()]
        if taken and not force:
            raise UsageError(f"{taken[0]} exists: move it away, or replace each file of the backup with --force")
        for name, part in parts.items():
            part.path.parent.mkdir(parents=True, exist_ok=True)
            with _explain_errors(part.path):
                part.replace(part.path, folder / name)
    return {name: part.path for name, part in parts.items()}


def _present(settings: Settings) -> Iterator[tuple[str, _Part]]:
    """Yield the files that there are, the log of events first.

    The files of the days are listed when the log has been copied: then they have all events that it lacks. An event
    that moves into a file meanwhile is in both, which a plan mends.
    """
    log = _parts(settings, [])[_LOG]
    if log.path.is_file():
        yield _LOG, log
    names = [path.relative_to(settings.cache).as_posix() for path in sorted(settings.cache.glob("photos/*/*"))]
    events = settings.events_folder
    names += [f"events/{path.relative_to(events).as_posix()}" for path in sorted(events.glob("*/[0-9]*.parquet"))]
    for name, part in _parts(settings, names).items():
        if name != _LOG and part.path.is_file():
            yield name, part


def _parts(settings: Settings, names: list[str]) -> Mapping[str, _Part]:
    """Return the files that a backup can have; `names` has those of photos and of events.

    The list of forgotten shoppers is the first: a restore that it stops has written nothing.
    """
    photos = [name for name in names if re.fullmatch(_PHOTO, name)]
    events = [name for name in names if re.fullmatch(_EVENTS, name)]
    return {
        "forgotten.json": _Part(settings.forgotten, _copy_forgotten, _join_forgotten, joins=True),
        "results.sqlite": _Part(settings.cache / FILE, _copy_whole_sqlite, _replace_sqlite),
        "releases.duckdb": _Part(settings.releases, _copy_duckdb, _replace_duckdb),
        "checks.duckdb": _Part(settings.quality / history.FILE, _copy_duckdb, _replace_duckdb),
        "evaluations.duckdb": _Part(settings.results, _copy_duckdb, _replace_duckdb),
        "served.sqlite": _Part(settings.served_file, _copy_whole_sqlite, _replace_sqlite),
        "judgments.csv": _Part(settings.judgments_file, _copy_file, _replace_file),
        "caption_edits.csv": _Part(settings.caption_edits or EDITS, _copy_file, _replace_file),
        _LOG: _Part(settings.events_file, partial(_copy_log, settings.events_folder), _replace_sqlite),
        **{name: _Part(settings.served / name, _copy_file, _replace_file) for name in events},
        **{name: _Part(settings.cache / name, _copy_file, _replace_file) for name in photos},
    }


def _extract(settings: Settings, source: Path, folder: Path) -> list[str]:
    """Extract the files of a backup and return their names."""
    if not source.is_file():
        raise UsageError(f"there is no file {source}")
    try:
        with zipfile.ZipFile(source) as archive:
            names = _Contents.model_validate_json(archive.read(_CONTENTS)).files
            if unknown := [name for name in names if name not in _parts(settings, names)]:
                raise UsageError(f"{source} has the file {unknown[0]}, which this version does not know: upgrade first")
            for name in names:
                archive.extract(name, folder)
    except (KeyError, ValidationError):
        raise UsageError(f"{source} is no backup of `vlm4rec backup`") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise RunError(f"{source} is damaged, or no backup ({one_line(error)}): nothing has been restored") from None
    return names


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, duckdb.Error) as error:
        raise RunError(f"{path} cannot be copied ({first_line(error)}): {_advice(error)}") from None


def _advice(error: sqlite3.Error | duckdb.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _UNWRITABLE or "Could not write file" in str(error):
        return "make room if the disk is full"
    if code in _DAMAGED or (isinstance(error, duckdb.Error) and not is_in_use(error)):
        return _REPLACE
    return "end what is using it and try again"


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database through the backup interface of SQLite, which waits for writers and misses no log."""
    with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(target)) as copy:
        database.backup(copy)


def _copy_whole_sqlite(source: Path, target: Path) -> None:
    """Copy a database and read the copy: SQLite copies damaged pages without a word.

    Raises:
        RunError: the database is damaged.
    """
    _copy_sqlite(source, target)
    with closing(sqlite3.connect(target)) as copy:
        (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise RunError(f"{source} cannot be copied ({found.splitlines()[-1]}): {_REPLACE}")


def _copy_log(days: Path, source: Path, target: Path) -> None:
    """Copy the log of events while none of them moves into the files of the days."""
    with events_lock(days) if days.is_dir() else nullcontext():
        _copy_whole_sqlite(source, target)


def _copy_duckdb(source: Path, target: Path) -> None:
    with duckdb.connect() as connection:
        when_free(lambda: connection.execute(f"ATTACH {quote_text(str(source))} AS source (READ_ONLY)"))
        connection.execute(f"ATTACH {quote_text(str(target))} AS target")
        connection.execute("COPY FROM DATABASE source TO target")
        detach(connection, "target")


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _copy_forgotten(source: Path, target: Path) -> None:
    load_forgotten(source)  # a damaged list would stop the restore
    _copy_file(source, target)


def _replace_file(path: Path, new: Path) -> None:
    with replacing_file(path) as part:
        shutil.copyfile(new, part)


def _join_forgotten(path: Path, new: Path) -> None:
    """Add the shoppers of a backup's list; one that is damaged is left out where there is another.

    Raises:
        UsageError: a list is damaged, or the two cannot become one.
    """
    with forgotten_lock(path):
        here = load_forgotten(path)
        try:
            given = load_forgotten(new)
        except UsageError:
            if not path.exists():
                raise UsageError(
                    "the list of forgotten shoppers in the backup is damaged, and without it they would come back: put"
                    f" the forgotten.json of another backup, which is a zip file, at {path}, or begin a list there with"
                    " `vlm4rec forget --user ID`; then restore again"
                ) from None
            logger.warning(
                "the list of forgotten shoppers in the backup is damaged and left out: forget those again who are not"
                " on the list here (`vlm4rec forget --user ID`)"
            )
            return
        save_forgotten(path, here.joined(given))


def _replace_sqlite(path: Path, new: Path) -> None:
    """Replace a database through SQLite, so that others may have it open, or as a file if it is damaged."""
    try:
        _copy_sqlite(new, path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in _DAMAGED:
            raise
        for log in ("-wal", "-shm", "-journal"):  # SQLite would replay the log of the old file into the new one
            Path(f"{path}{log}").unlink(missing_ok=True)
        _replace_file(path, new)


def _replace_duckdb(path: Path, new: Path) -> None:
    with replacing_database(path) as part:
        shutil.copyfile(new, part)
