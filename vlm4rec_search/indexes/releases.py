"""The releases of an index, whatever its backend: publish, list, switch, remove, compare."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import pyarrow as pa

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.release import Publication, ReleaseMeta
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

KEPT = 5  # releases that stay, the one that answers included: enough to go back to


Hashed = Literal["profiles", "segments"]

COLUMNS = (
    "item_id",
    "title",
    "description",
    "caption",
    "category",
    "price",
    "available",
    "image",
    "content_hash",
    "vector",
)
BEHAVIOUR = ("popularity", "neighbours")  # further columns of the documents, which follow from interactions


class Releases(ABC):
    """Where releases live, one of which answers.

    Attributes:
        url: without credentials.
    """

    url: str

    @abstractmethod
    def publish(self, given: SearchTables[Frame], meta: ReleaseMeta, incremental: bool, force: bool) -> Publication:
        """Build, verify and publish a release.

        Raises:
            UsageError: a column is missing, or an incremental release cannot be made of what answers.
            RunError: nothing is left to publish, verification fails, or somebody else is publishing.
        """

    @abstractmethod
    def live(self) -> str | None:
        """Return the name of the release that answers, None where nothing is published.

        Raises:
            UsageError: what names it is damaged.
        """

    @abstractmethod
    def whole(self) -> Mapping[str, ReleaseMeta]:
        """Return what the releases say of themselves that could answer, oldest first."""

    @abstractmethod
    def switch(self, name: str) -> None:
        """Let another release answer, in one step.

        Raises:
            UsageError: there is no such release, or it was made for another package version.
            RunError: it has lost documents, or somebody is publishing.
        """

    @abstractmethod
    def prune(self, kept: int) -> list[str]:
        """Remove all but the newest releases, and return their names; the one that answers and the one before stay.

        Raises:
            RunError: somebody is publishing.
        """

    @abstractmethod
    def open(self, name: str, ranking: Ranking | None = None, rules: Sequence[Rule] = ()) -> Searcher:
        """Open a release, whether it answers or not; `ranking` and `rules` as of `Searcher`.

        Raises:
            UsageError: it was made for another package version.
        """

    @abstractmethod
    def documents(self, name: str, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
        """Yield the documents of a release, some or all of `COLUMNS` and `BEHAVIOUR`.

        Vectors are lists of float32, neighbours of (item_id, similarity), nearest first.
        """

    @abstractmethod
    def hashes(self, name: str, kind: Hashed) -> Iterator[pa.RecordBatch]:
        """Yield id and body_hash (`tables.BODY_HASH`) of all profiles or segments of a release."""

    @abstractmethod
    def users(self, name: str, count: int) -> list[str]:
        """Return the ids of a sample of the users of a release, the same one every time."""

    def find(self, name: str | None) -> str:
        """Return the name of the release that answers for None, else `name`.

        Raises:
            UsageError: nothing is published, or there is no such release.
        """
        chosen = name or self.live()
        if chosen is None:
            raise UsageError(f"nothing is published in {self.url}: run `vlm4rec index` first")
        if chosen not in self.whole():
            raise UsageError(
                f"there is no release {chosen} in {self.url}: `vlm4rec releases list` shows those that are"
            )
        return chosen

    def before(self, name: str) -> str:
        """Return the release that was made before another one.

        Raises:
            UsageError: there is none.
        """
        names = list(self.whole())
        place = names.index(name) if name in names else len(names)
        if place == 0:
            raise UsageError(f"there is no release before {name} in {self.url}")
        return names[place - 1]

    def rollback(self, name: str | None) -> str:
        """Let the named release answer, or the one before the one that answers, and return its name.

        Raises:
            UsageError: there is no such release.
            RunError: somebody is publishing.
        """
        chosen = self.find(name) if name else self.before(self.find(None))
        self.switch(chosen)
        return chosen
