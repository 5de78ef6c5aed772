"""The releases of the embedded index: files in a folder, and the pointer to the live one."""

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from vlm4rec_search.common import maven
from vlm4rec_search.common.erase import erase_from_duckdb
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.embedded import pointer
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.listing import list_releases, open_release
from vlm4rec_search.indexes.embedded.publish import COUNT_USERS, EXACT_UP_TO, build_release
from vlm4rec_search.indexes.embedded.store import Store, read_meta
from vlm4rec_search.indexes.release import ForgetError, ListedRelease, Publication
from vlm4rec_search.indexes.releases import COLUMNS, Hashed, ReadForgotten, Releases
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.indexes.tables import HASHES
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

_BATCH = 1_000  # rows in memory
_DOCUMENTS = """
    SELECT *, coalesce(score, 0) AS popularity
    FROM documents INNER JOIN vectors USING (document) LEFT JOIN popularity USING (document)
        LEFT JOIN neighbours USING (document)
"""


class EmbeddedReleases(Releases):
    """The release files of a folder and its pointer."""

    def __init__(self, folder: Path, exact_up_to: int = EXACT_UP_TO, weights_source: str = maven.CENTRAL) -> None:
        """Use a folder, which may be missing. For `exact_up_to` see `build_release`; `weights_source`: `Searcher`."""
        self.folder, self.url = folder, str(folder)
        self._exact_up_to, self._weights_source = exact_up_to, weights_source

    def publish(
        self,
        given: SearchTables[Frame],
        meta: ReleaseMeta,
        incremental: bool,
        force: bool,
        forgotten: ReadForgotten = frozenset,
        kept: Collection[str] = (),
    ) -> Publication:
        """Build a release file."""
        if incremental:
            raise UsageError("an embedded release is always built whole: leave out --incremental")
        summary = build_release(self.folder, given, meta, self._exact_up_to, forgotten, force, kept)
        with open_release(pointer.release_path(self.folder, meta.name)) as connection:
            refused = connection.table("rejected").to_arrow_table()
            built = read_meta(connection)
        return Publication(built, replace(summary, users=built.users), refused=refused)

    def live(self) -> str | None:
        return pointer.live_name(self.folder)

    def list(self) -> Mapping[str, ListedRelease]:
        return list_releases(self.folder)

    def activate(self, name: str) -> None:
        """Replace the pointer, after opening the release as a search does.

        A running build is not waited for; it notices the activation and does not replace the release.
        """
        self.open(self.find(name)).close()
        with pointer.pointer_lock(self.folder):
            pointer.activate(self.folder, name)

    def prune(self, retained: int, kept: Collection[str] = ()) -> Sequence[str]:
        """Delete the files of old releases and what killed processes have left."""
        with pointer.folder_lock(self.folder), pointer.pointer_lock(self.folder):
            live = self.live()
            needed = {live, *self.older(live)[-1:]} if live else set()
            pointer.remove_unfinished(self.folder)
            return pointer.remove_old(self.folder, {*needed, *kept}, retained)

    def open(
        self,
        name: str,
        ranking: Ranking | None = None,
        rules: Sequence[Rule] = (),
        shared: bool = False,
        encoder: str | None = None,
    ) -> Searcher:
        store = Store(pointer.release_path(self.folder, name), shared)
        return Searcher(EmbeddedBackend(store), encoder, ranking, rules, self._weights_source)

    def documents(self, name: str, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
        sql = f"SELECT {', '.join(columns)} FROM ({_DOCUMENTS}) ORDER BY document"  # noqa: S608  our own names
        with open_release(pointer.release_path(self.folder, name)) as connection:
            yield from connection.execute(sql).to_arrow_reader(_BATCH)

    def hashes(self, name: str, kind: Hashed) -> Iterator[pa.RecordBatch]:
        with open_release(pointer.release_path(self.folder, name)) as connection:
            yield from connection.execute(HASHES[kind]).to_arrow_reader(_BATCH)

    def users(self, name: str, count: int) -> Sequence[str]:
        """Return the users whose ids have the smallest hashes."""
        with open_release(pointer.release_path(self.folder, name)) as connection:
            rows = connection.execute("SELECT user_id FROM users ORDER BY md5(user_id) LIMIT ?", [count]).fetchall()
        return [user for (user,) in rows]

    def forget(self, users: Container[str], dry_run: bool = False) -> Mapping[str, int]:
        """Replace each file that has such shoppers, also one of another package version.

        What killed processes have left, which may have them too, is removed.
        """
        if not (self.folder / "releases").is_dir():
            return {}
        with nullcontext() if dry_run else pointer.folder_lock(self.folder):
            if not dry_run:
                pointer.remove_unfinished(self.folder)
            paths = sorted((self.folder / "releases").glob("[!.]*.duckdb"))  # a build may just have ended
            rows: dict[str, int] = {}
            problems: dict[str, str] = {}
            for path in paths:
                advice = ": delete this file if it is damaged"
                try:
                    count = erase_from_duckdb(path, users, dry_run=True)
                    advice = ""  # it can be read: what fails now is the writing, for example on a full disk
                    rows[path.stem] = count if dry_run else erase_from_duckdb(path, users, False, COUNT_USERS)
                except RunError as error:
                    problems[path.stem] = f"{error}{advice}"
        found = {name: count for name, count in rows.items() if count}
        if problems:
            raise ForgetError(found, problems)
        return found
