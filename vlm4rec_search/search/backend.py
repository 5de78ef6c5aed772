"""The port between a search and an index: what a backend reads from a release, without the flow of a search."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.turns import Turns
from vlm4rec_search.common.vectors import Floats, Ints, Vectors
from vlm4rec_search.search.filters import Filter
from vlm4rec_search.search.fusion import Candidates
from vlm4rec_search.search.model import Document, Item, Neighbours, Plan, Ranked, Record, Request, Retriever, User
from vlm4rec_search.search.query import ItemToItem, Kind
from vlm4rec_search.search.release import ReleaseMeta

MAX_VALUES = 1_000  # values of a field that a reader returns


class UnavailableError(RunError):
    """The backend does not answer now, or not in time; the same request may succeed later."""


class AccessError(UsageError):
    """The backend refuses the certificate, the credentials or their rights: a setting has to change, or the server."""


class ReleaseGoneError(RunError):
    """The release was deleted while it was open."""


class ItemGoneError(RunError):
    """An item was deleted between the request that found it and the request that reads it; a retry does not find it."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """One HTTP request that a search sent to a server.

    Attributes:
        method: such as POST.
        path: with parameters.
        body: JSON, or several lines of JSON.
        together: the next request is sent at the same time.
    """

    method: str
    path: str
    body: str
    together: bool = False


class Retrieved(ABC):
    """The candidates of one request; documents are numbers in the order of their item ids.

    Attributes:
        candidates: one for each retriever, scores rounded to 6 decimals, best first, equal scores by document.
        failed: names of the retrievers that did not answer in time; they have no candidates.
        seconds: how long each retriever took, 0 for one that failed; empty where nothing was measured. A server says
            itself how long it took, without the way there and back.
    """

    candidates: Sequence[Candidates]
    failed: Sequence[str] = ()
    seconds: Sequence[float] = ()

    @abstractmethod
    def records(self, documents: Sequence[int] | Ints) -> list[Record]:
        """Return what hits show, in the given order."""

    def ids(self, documents: Ints) -> list[str]:
        """Return the item ids of documents, in the given order."""
        return [record["item_id"] for record in self.records(documents)]

    @abstractmethod
    def vectors(self, documents: Ints, kind: Kind = "semantic") -> Vectors:
        """Return the unit vectors of documents, float32 (b, d).

        Of the kinds fitted and photo they are zeros where a document has none.
        """

    @abstractmethod
    def facets(self, documents: Ints) -> list[Mapping[str, Sequence[str]]]:
        """Return the values by field that filters see, of each document."""

    @abstractmethod
    def scores(self, documents: Ints) -> Floats:
        """Return the score of documents in every retriever, candidates or not, float64 (b, retrievers)."""

    @abstractmethod
    def words(self, documents: Ints) -> list[Mapping[str, float]]:
        """Return what each word, by its surface form, adds to the lexical score of each document."""


class Reader(ABC):
    """Reads one release for one query: first the facts about its subject, then the candidates."""

    @property
    @abstractmethod
    def release(self) -> ReleaseMeta:
        """The release that it reads."""

    @property
    @abstractmethod
    def fields(self) -> Collection[str]:
        """The attributes that its documents have, which filters can name beside `COLUMNS`."""

    @abstractmethod
    def values(self, field: str) -> Sequence[str]:
        """Return the `MAX_VALUES` most frequent values that filters see of a field, sorted."""

    @abstractmethod
    def user(self, user_id: str, *, interests: bool = False) -> User | None:
        """Return what the release knows of a shopper, None for an unknown one.

        Args:
            user_id: the shop's id.
            interests: also the interests, several vectors for each shopper.
        """

    def known_users(self, user_ids: Sequence[str]) -> set[str]:
        """Return those of some shoppers whom the release knows."""
        return {user_id for user_id in user_ids if self.user(user_id) is not None}

    @abstractmethod
    def items(self, item_ids: Sequence[str], *, words: bool = False, photos: bool = False) -> dict[str, Item]:
        """Return the items of the release by id, in the order of the ids, without neighbours.

        Args:
            item_ids: unknown ids are missing from the result.
            words: also their words.
            photos: also the vectors of their photos.
        """

    @abstractmethod
    def documents(self, item_ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents of the release by id, in the order of the ids; unknown ids are missing."""

    @abstractmethod
    def neighbours(self, item_ids: Sequence[str], kinds: Collection[ItemToItem]) -> Neighbours:
        """Return the neighbours of those items that the release has; those of other kinds may be missing."""

    @abstractmethod
    def popular(self, segment: str) -> Mapping[str, float]:
        """Return the popular items of a segment with their scores, empty for an unknown segment."""

    def prefetch(self, request: Request) -> None:
        """Start to retrieve a request's candidates; `retrieve` then uses them for the same retrievers."""
        return

    @abstractmethod
    def retrieve(self, request: Request) -> Retrieved:
        """Return the candidates of every retriever.

        Raises:
            UsageError: no document has a field that a condition names.
            UnavailableError: no retriever answers in time.
            RunError: the backend refuses; `ReleaseGoneError` and `ItemGoneError` are its special cases.
        """

    def has_match(self, condition: Filter) -> bool:
        """Return whether any document fulfils a condition.

        Raises:
            UsageError, RunError: as for `retrieve`.
        """
        everything = Retriever("popularity", "popularity")
        retrieved = self.retrieve(Request([everything], (condition,), None, (), 1))
        return len(retrieved.candidates[0].documents) > 0

    @property
    def failed(self) -> Sequence[str]:
        """What could not be looked up in time for the facts, in words."""
        return ()

    def in_memory(self, request: Request) -> Retrieved | None:
        """Return the candidates among the popular items that are kept in memory, without asking the backend.

        Raises:
            UsageError: no document has a field that a condition names.
        """
        return None

    def rank(self, plan: Plan) -> Ranked | None:
        """Return the final hits where the backend can fuse by itself and the plan needs no more, else None."""
        return None


class Backend(ABC):
    """An open release in a folder or on a server; several threads may read it at once.

    Attributes:
        turns: of the threads that search; as many as there are where a server computes.
    """

    turns = Turns(sys.maxsize)

    @property
    @abstractmethod
    def release(self) -> ReleaseMeta:
        """The open release."""

    @abstractmethod
    def reader(self, sent: list[SentRequest] | None = None) -> Reader:
        """Return a reader for one query.

        Args:
            sent: collects every request that the reader sends to a server.

        Raises:
            UsageError: `sent` is given, but there is no server.
        """

    def live(self) -> str | None:
        """Return the name of the release that answers now, None where the backend stays with the one that it opened.

        Raises:
            UsageError: nothing is published any more.
            RunError: the backend does not answer.
        """
        return None

    def reopen(self) -> bool:
        """Open the release that answers now, and return whether that is possible.

        A backend that was opened for one named release stays with it.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Release files and connections."""
