"""The releases of an index on any backend: publish, list, activate, remove, and read them for comparisons."""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Literal, Self

import pyarrow as pa

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.release import Publication, ReleaseMeta
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

RETAINED = 5  # releases that a publication leaves, the live one included: enough to go back to

Hashed = Literal["profiles", "segments"]  # kinds of documents that are compared by their hashes

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
    def publish(self, given: SearchTables[Frame], meta: ReleaseMeta, incremental: bool, force: bool) -> Publication:
        """Build, verify and activate a release.

        Raises:
            UsageError: a column is missing, or the live release cannot be the base of an incremental release.
            RunError: nothing is left to publish, verification fails, or another publication is running.
        """

    @abstractmethod
    def live(self) -> str | None:
        """Return the name of the live release, None where nothing is published.

        Raises:
            UsageError: the pointer or the aliases are damaged.
        """

    @abstractmethod
    def list(self) -> Mapping[str, ReleaseMeta]:
        """Return the metadata of every complete release by name, the oldest first."""

    @abstractmethod
    def activate(self, name: str) -> None:
        """Make another release live, in one step.

        Raises:
            UsageError: there is no such release, or it is of another package version.
            RunError: it has lost documents, or a publication is running.
        """

    @abstractmethod
    def prune(self, retained: int) -> Sequence[str]:
        """Remove all but the newest `retained` releases, and return the names of the removed ones.

        The live release and the one before it always stay.

        Raises:
            RunError: a publication is running, or a release cannot be removed.
        """

    @abstractmethod
    def open(
        self, name: str, ranking: Ranking | None = None, rules: Sequence[Rule] = (), shared: bool = False
    ) -> Searcher:
        """Open a release, live or not; for `ranking` and `rules` see `Searcher`.

        With `shared`, a folder's release shares the memory of its arrays with other processes.

        Raises:
            UsageError: it is of another package version.
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
            RunError: the index does not answer, or a publication is running.
        """

    def close(self) -> None:  # noqa: B027  a folder has nothing to close
        """Close the connections to a server, also those of the releases that `open` returned."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def live_release(self) -> ReleaseMeta | None:
        """Return the metadata of the live release; None where nothing is live, or another package version made it."""
        name = self.live()
        return None if name is None else self.list().get(name)

    def find(self, name: str | None) -> str:
        """Return `name`, or the name of the live release for None, after checking that it exists.

        Raises:
            UsageError: nothing is published, or there is no such release.
        """
        chosen = name or self.live()
        if chosen is None:
            raise UsageError(f"nothing is published in {self.url}: run `vlm4rec index` first")
        if chosen not in self.list():
            raise UsageError(f"there is no release {chosen} in {self.url}: `vlm4rec releases list` shows all releases")
        return chosen

    def previous(self, name: str) -> str:
        """Return the name of the release that was made before another one.

        Raises:
            UsageError: no release is older.
        """
        names = [*self.list()]
        position = names.index(name) if name in names else len(names)
        if position == 0:
            raise UsageError(f"there is no release before {name} in {self.url}")
        return names[position - 1]

    def rollback(self, name: str | None) -> str:
        """Activate the named release, or the one made before the live release, and return its name.

        Raises:
            UsageError: there is no such release.
            RunError: a publication is running.
        """
        chosen = self.find(name) if name else self.previous(self.find(None))
        self.activate(chosen)
        return chosen
