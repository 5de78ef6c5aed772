"""The releases of an index on any backend: publish, list, activate, remove, and read them for comparisons."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from typing import Literal, Self, TypeAlias

import pyarrow as pa

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.release import CURE, DamagedIndexError, ListedRelease, Publication, in_order, made_at
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

logger = logging.getLogger(__name__)

RETAINED = 5  # releases that a publication leaves, the live one included: enough to go back to

Hashed = Literal["profiles", "segments"]  # kinds of documents that are compared by their hashes

ReadForgotten: TypeAlias = Callable[[], Container[str]]  # contains the ids of the forgotten shoppers at that moment

_TEXTS = ("title", "description", "caption", "details", "category")
COLUMNS = ("item_id", *_TEXTS, "price", "available", "image", "content_hash", "vector")
BEHAVIOUR = ("popularity", "neighbours")  # further columns of the documents, which follow from interactions


class Releases(ABC):
    """The releases in a folder or on a server. At most one of them is live: searches get their answers from it.

    Use it in a `with` block.

    Attributes:
        url: of the index, without credentials.
    """

    url: str

    @abstractmethod
    def publish(
        self,
        given: SearchTables[Frame],
        meta: ReleaseMeta,
        incremental: bool,
        force: bool,
        forgotten: ReadForgotten = frozenset,
        kept: Collection[str] = (),
    ) -> Publication:
        """Build, verify and activate a release; then remove all but the newest `RETAINED` and those in `kept`.

        Shoppers whom `forgotten` returns are left out. It is called while no `forget` can run on the index: before the
        rows are staged, and again before the release goes live.

        Raises:
            UsageError: a column is missing, or the live release cannot be the base of an incremental release.
            RunError: nothing is left to publish, verification fails, or another publication is running.
        """

    @abstractmethod
    def live(self) -> str | None:
        """Return the name of the live release, None where nothing is published; it may be gone or damaged.

        Raises:
            DamagedIndexError: the pointer cannot be read, or the aliases do not name one release.
            UsageError: an alias is an index.
        """

    @abstractmethod
    def list(self) -> Mapping[str, ListedRelease]:
        """Return every complete release by name, the oldest first, also those that this package cannot open."""

    @abstractmethod
    def activate(self, name: str) -> None:
        """Make another release live, in one step.

        Raises:
            UsageError: there is no such release, or it is of another package version.
            RunError: it is damaged or has lost documents, or another process is activating or removing releases.
        """

    @abstractmethod
    def prune(self, retained: int, kept: Collection[str] = ()) -> Sequence[str]:
        """Remove all but the newest `retained` releases and those in `kept`, and return the names of the removed ones.

        The live release always stays, and so does the newest of the older ones that can be opened, as a way back. What
        killed publications have left goes, too.

        Raises:
            DamagedIndexError: it is unknown which release is live; nothing is removed.
            RunError: a publication is running, or a release cannot be removed.
        """

    @abstractmethod
    def open(
        self,
        name: str,
        ranking: Ranking | None = None,
        rules: Sequence[Rule] = (),
        shared: bool = False,
        encoder: str | None = None,
    ) -> Searcher:
        """Open a release, live or not; for `ranking`, `rules` and `encoder` see `Searcher`.

        With `shared`, a folder's release shares the memory of its arrays with other processes.

        Raises:
            UsageError: it is of another package version, or was built by another encoder.
        """

    @abstractmethod
    def documents(self, name: str, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
        """Yield the documents of a release with the given columns of `COLUMNS` and `BEHAVIOUR`.

        Vectors are lists of float32, neighbours are lists of (item_id, similarity), the nearest first.
        """

    @abstractmethod
    def hashes(self, name: str, kind: Hashed) -> Iterator[pa.RecordBatch]:
        """Yield id and body_hash (`tables.BODY_HASH`) of all profiles or segments of a release."""

    @abstractmethod
    def users(self, name: str, count: int) -> Sequence[str]:
        """Return the ids of a sample of the users of a release, the same sample every time."""

    @abstractmethod
    def forget(self, users: Container[str], dry_run: bool = False) -> Mapping[str, int]:
        """Remove the documents of shoppers from all releases, and return how many each release has of them.

        Releases that have none are left out. Services that follow the index answer without them within seconds.

        Args:
            users: contains the ids of the shoppers.
            dry_run: only count.

        Raises:
            ForgetError: a release cannot be cleaned; all others are.
            RunError: the index does not answer, or a publication is running.
        """

    def close(self) -> None:  # noqa: B027  a folder has nothing to close
        """Close the connections to a server, also those of the releases that `open` returned."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def live_release(self) -> ReleaseMeta | None:
        """Return the metadata of the live release; None where nothing is live, or where they cannot be read."""
        try:
            name = self.live()
        except DamagedIndexError as error:
            logger.warning("the metadata of the live release is lost: %s", error)
            return None
        listed = self.list().get(name) if name else None
        if name and not (listed and listed.meta):
            reason = listed.problem if listed else f"{name} is gone"
            logger.warning("the metadata of the live release is lost, with the ranking in force: %s", reason)
        return listed.meta if listed else None

    def find(self, name: str | None) -> str:
        """Return `name`, or the name of the live release for None, after checking that nothing is known against it.

        Raises:
            UsageError: nothing is published, there is no such release, or it is of another package version.
            RunError: the release cannot be read, or the live one is gone.
        """
        return self._find(name)[0]

    def meta(self, name: str | None) -> ReleaseMeta:
        """Return the metadata of the named release, or of the live one for None, after checking it as `find` does."""
        return self._find(name)[1]

    def _find(self, name: str | None) -> tuple[str, ReleaseMeta]:
        chosen = name or self.live()
        if chosen is None:
            raise UsageError(f"nothing is published in {self.url}: run `vlm4rec index` first")
        listed = self.list().get(chosen)
        if listed is None and name is None:
            raise DamagedIndexError(f"the live release {chosen} is gone from {self.url}: {CURE}")
        if listed is None:
            raise UsageError(f"there is no release {chosen} in {self.url}: `vlm4rec releases list` shows all releases")
        if listed.meta is not None and listed.problem is None:
            return chosen, listed.meta
        if listed.problem and (name or not isinstance(listed.problem, RunError)):
            raise listed.problem
        raise RunError(f"{listed.problem}: {CURE}")

    def older(self, name: str) -> Sequence[str]:
        """Return the names of the releases that were made before another one, which need not exist, and can be opened.

        The oldest is first.
        """
        listed = dict(self.list())
        listed.setdefault(name, ListedRelease(None))
        names = [*in_order(listed)]
        before = names[: names.index(name)] if listed[name].meta or made_at(name) else set(names) - {name}
        return [each for each in names if each in before and not listed[each].problem]

    def newer(self, name: str) -> Sequence[str]:
        """Return the names of the releases that were made after another one and can be opened, the oldest first."""
        listed = self.list()
        names = [*listed]
        return [each for each in names[names.index(name) + 1 :] if not listed[each].problem]

    def rollback(self, name: str | None) -> str:
        """Activate the named release, or the one made before the live release, and return its name.

        The live release need not be readable, nor be there. Older ones that cannot be opened are passed over.

        Raises:
            UsageError: there is no such release.
            RunError: the named release cannot be read, or another process is activating or removing releases.
        """
        chosen = name or self._before_live()
        self.activate(chosen)
        return chosen

    def live_or_lost(self) -> str | None:
        """Return what `live` does, and the name of a live release that has lost an index.

        Raises:
            DamagedIndexError: it is unknown which release is live.
            UsageError: an alias is an index.
        """
        try:
            return self.live()
        except DamagedIndexError as error:
            if error.release is None:
                raise
            return error.release

    def _before_live(self) -> str:
        live = self.live_or_lost()
        if live is None:
            raise UsageError(f"nothing is published in {self.url}: run `vlm4rec index` first")
        if not (older := self.older(live)):
            raise UsageError(f"there is no release before {live} in {self.url} that can be opened")
        return older[-1]
