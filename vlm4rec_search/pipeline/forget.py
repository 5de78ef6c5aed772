"""Forgets shoppers: their rows leave all files and indices of the project, and the raw layer refuses later ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from vlm4rec_search.common.erase import ERASABLE, ERASING, erase_rows
from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.common.paths import PARTS, remove_abandoned, remove_stale
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import PUBLISHING
from vlm4rec_search.datasets.events.compaction import events_lock
from vlm4rec_search.datasets.forgotten import Forgotten, forgotten_lock, load_forgotten, save_forgotten
from vlm4rec_search.indexes import open_releases
from vlm4rec_search.indexes.release import ForgetError
from vlm4rec_search.pipeline.quality import history


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed at one place.

    Attributes:
        place: a file, or a release of an index.
        rows: number of rows or documents; of a dry run those that would be removed.
        problem: why nothing was removed, None where it was.
    """

    place: str
    rows: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What `forget` did.

    Attributes:
        dry_run: nothing was changed.
        shoppers: number of shoppers who are forgotten, earlier ones included.
        added: how many of them are new.
        removals: one for each place with rows of theirs, or with a problem.
        stays: what has to be done by other means, in sentences.
    """

    dry_run: bool
    shoppers: int
    added: int
    removals: Sequence[Removal]
    stays: Sequence[str]

    @property
    def problems(self) -> Sequence[Removal]:
        """The places where rows may be left."""
        return [removal for removal in self.removals if removal.problem]


def forget(settings: Settings, user_ids: Sequence[str], dry_run: bool = False, url: str | None = None) -> Forgetting:
    """Put shoppers on the list of the forgotten, and remove the rows of all who are on it.

    The list is written first: whatever stops the rest, the next call goes on. A call without ids does the same for
    those who are on the list, for example after a backup was restored.

    Args:
        settings: of the project: the list, and all places where rows can be.
        user_ids: of further shoppers.
        dry_run: change nothing, and count.
        url: of the index; None takes the settings'.

    Raises:
        UsageError: nobody is on the list and there are no ids, an id is empty, or the list cannot be read.
        RunError: the list cannot be written. Problems of other places are in the result.
    """
    with forgotten_lock(settings.forgotten) if user_ids and not dry_run else nullcontext():
        before = load_forgotten(settings.forgotten)
        forgotten = before.adding(user_ids)
        if not forgotten.hashes:
            raise UsageError("nobody is forgotten yet: name a shopper with --user ID")
        if not dry_run and forgotten != before:
            save_forgotten(settings.forgotten, forgotten)
    index = url or settings.index_url
    removals = [*_remove_from_index(settings, index, forgotten, dry_run)]
    has_events = settings.events_folder.is_dir()
    with events_lock(settings.events_folder) if has_events else nullcontext():  # a plan moves events meanwhile
        files = [*_files(settings)]
        for path in files:
            is_raw = path.parent == settings.cache / "raw"
            removals += _attempt(path, partial(_erase, path, forgotten, dry_run, is_raw))
    for folder in () if dry_run else sorted({path.parent for path in files}):
        removals += _attempt(folder, partial(_remove_stale, folder))
    for place in () if dry_run else (settings.cache, Path(gettempdir())):
        removals += _attempt(place, partial(_remove_abandoned, place))
    removals += _remove_from_copy(settings, index, forgotten, dry_run)  # behind the files that it is made from
    added = len(forgotten.hashes) - len(before.hashes)
    return Forgetting(dry_run, len(forgotten.hashes), added, removals, _stays(settings))


def _remove_from_index(settings: Settings, url: str, forgotten: Forgotten, dry_run: bool) -> Iterator[Removal]:
    problems: Mapping[str, str] = {}
    files = None
    try:
        with open_releases(url, settings) as releases:
            found = releases.forget(forgotten, dry_run)
    except ForgetError as error:
        found, problems, files = error.found, error.problems, error.files
    except Vlm4recError as error:
        yield Removal("the index", 0, str(error))
        return
    yield from (Removal(f"release {name} in {releases.url}", rows) for name, rows in found.items())
    yield from (Removal(f"release {name} in {releases.url}", 0, problem) for name, problem in problems.items())
    if files:
        yield Removal(f"the files of {releases.url}", 0, files)


def _remove_from_copy(settings: Settings, url: str, forgotten: Forgotten, dry_run: bool) -> Iterator[Removal]:
    """Remove what `publish-events` copied to the server of the index."""
    if not url.startswith(("http://", "https://")):
        return
    from vlm4rec_search.pipeline.ubi_export import forget_ubi  # opensearchpy is slow to import

    try:
        found = forget_ubi(settings, url, forgotten, dry_run)
    except Vlm4recError as error:
        yield Removal("the copy of events", 0, f"the copy of events in ubi_*: {error}")
        return
    yield from (Removal(f"index {name} of the server", rows) for name, rows in found.items())


def _attempt(place: Path, remove: Callable[[], int]) -> Iterator[Removal]:
    try:
        rows = remove()
    except Vlm4recError as error:
        yield Removal(str(place), 0, str(error))
        return
    if rows:
        yield Removal(str(place), rows)


def _erase(path: Path, forgotten: Forgotten, dry_run: bool, is_raw: bool) -> int:
    """Remove the rows; what is stored of a delivered file goes whole, and the next plan stores it without the rows."""
    rows = erase_rows(path, forgotten, dry_run or is_raw)
    if rows and is_raw and not dry_run:
        path.unlink(missing_ok=True)
    return rows


def _remove_stale(folder: Path) -> int:
    """Remove what killed processes have left, which may have rows too; nobody counts them."""
    with _removing():
        for pattern in (PARTS, f"{ERASING}*", f"{PUBLISHING}*"):
            remove_stale(folder, pattern)
    return 0


def _remove_abandoned(place: Path) -> int:
    """Remove copies that commands were working with when they were killed; nobody counts their rows."""
    with _removing():
        remove_abandoned(place)
    return 0


@contextmanager
def _removing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{error.filename} is left over and cannot be removed ({error.strerror})") from None


def _files(settings: Settings) -> Iterator[Path]:
    """Yield the files of the project that can hold rows of shoppers, without the warehouse and the delivered files."""
    named = [
        settings.releases,
        settings.results,
        settings.quality / history.FILE,
        settings.published / settings.warehouse.name,
        settings.recommendations,
    ]
    folders = [settings.cache / "raw", settings.served, settings.published]
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in ERASABLE]
    exports = [] if settings.project is None else _exports(settings.project, settings.data_dir)
    known = {path.resolve(): path for path in (*named, *found, *exports) if path.is_file()}
    known.pop(settings.warehouse.resolve(), None)
    yield from known.values()


def _exports(project: Path, data: Path) -> Iterator[Path]:
    """Yield the Parquet files below a project, hidden folders and the delivered files left out."""
    for path in sorted(path for path in project.rglob("*") if path.suffix.lower() == ".parquet"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(project).parts)
        if not is_hidden and data.resolve() not in path.resolve().parents:
            yield path


def _stays(settings: Settings) -> list[str]:
    return [
        f"tables of {settings.warehouse}: `sqlmesh plan` builds them without the rows, then"
        " `sqlmesh janitor --ignore-ttl` drops the old ones",
        f"delivered files in {settings.data_dir}, and records in them that cannot be read: the shop's own",
        "counts, co-purchases and popularity, until the next plan and `vlm4rec index`; vectors that `vlm4rec fit`"
        " learned, until the next fit",
        f"examples that failed checks have kept in {settings.quality}, and vectors in {settings.cache}, which no id"
        " names",
        "backups, copies outside of the project, logs of servers in front of it, and releases that a process opened"
        " by name: restart it",
    ]
