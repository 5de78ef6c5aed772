"""What every index can do, whatever its backend: look up, and find the candidates of legs. Searching is shared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.release import ReleaseMeta
from vlm4rec_search.search.fusion import Candidates, Integers
from vlm4rec_search.search.model import Item, Leg, Plan, Record, Request, User, Vector
from vlm4rec_search.search.query import Answer, Query
from vlm4rec_search.search.ranking import Ranking, load_ranking
from vlm4rec_search.search.rules import Rule

if TYPE_CHECKING:
    from vlm4rec_search.search.model import Ranked


# What a search sends to a server, for people who want to send it themselves.


@dataclass(frozen=True, slots=True)
class Sent:
    """One HTTP request: path with parameters, and the body, in JSON or several lines of it.

    Attributes:
        together: it is sent at the same time as the next one.
    """

    method: str
    path: str
    body: str
    together: bool = False


class Found(ABC):
    """What the legs of one request found; documents are numbers in the order of their item ids.

    Attributes:
        candidates: of each leg, scores rounded to 6 decimals, best first, equal scores by document.
    """

    candidates: Sequence[Candidates]

    @abstractmethod
    def records(self, documents: Sequence[int] | Integers) -> list[Record]:
        """Return what hits show, in the given order."""

    @abstractmethod
    def vectors(self, documents: Integers) -> npt.NDArray[np.float32]:
        """Return the unit vectors of documents, float32 (b, d)."""

    @abstractmethod
    def facets(self, documents: Integers) -> list[Mapping[str, Sequence[str]]]:
        """Return the values by field that filters see, of each document."""

    @abstractmethod
    def scores(self, documents: Integers) -> npt.NDArray[np.float64]:
        """Return each leg's score of documents, candidates of the leg or not, float64 (b, legs)."""

    @abstractmethod
    def words(self, documents: Integers) -> list[Mapping[str, float]]:
        """Return what each word adds to the score of the lexical leg, by the word's form, of each document."""


class Index(ABC):
    """An open index; use it in a `with` block. Several threads may search at once.

    Attributes:
        meta: what made the release that answers.
        ranking: how the legs are joined.
        rules: what is done to hits after that.
    """

    meta: ReleaseMeta
    ranking: Ranking
    rules: Sequence[Rule]

    def __init__(
        self, meta: ReleaseMeta, encoder: str | None, ranking: Ranking | None = None, rules: Sequence[Rule] = ()
    ) -> None:
        """Check that the caller's encoder made the release.

        Raises:
            UsageError: the release was built by another encoder than `encoder`.
        """
        from pathlib import Path

        self.meta, self.ranking, self.rules = meta, ranking or load_ranking(), rules
        name = meta.encoder.rsplit("@", 1)[0]
        self._encoder = name if encoder in (None, meta.encoder) else encoder
        # A folder is known by the hash of its weights; the names of the others are the names in their ids.
        is_folder = self._encoder != name and Path(self._encoder).is_dir()
        if self._encoder != name and not (is_folder and self._present() == _revision(meta.encoder)):
            raise UsageError(
                f"the index was built by the encoder {meta.encoder}, not by {encoder}: let VLM4REC_ENCODER name "
                "that one, or run `sqlmesh plan` and `vlm4rec index` for a new index"
            )

    def search(self, query: Query) -> Answer:
        """Answer a query.

        Raises:
            UsageError: a filter names an unknown field, no item of the session is known, or the text needs an encoder
                that is not there.
            RunError: the backend does not answer.
        """
        from vlm4rec_search.search.searcher import answer

        return answer(self, query)

    @abstractmethod
    def user(self, user_id: str) -> User | None:
        """Return what the release knows of a shopper, None for an unknown one."""

    @abstractmethod
    def items(self, item_ids: Sequence[str], *, words: bool = False) -> dict[str, Item]:
        """Return the items of the release by id, in the order of the ids, without neighbours."""

    @abstractmethod
    def sources(self, item_ids: Sequence[str]) -> dict[str, Item]:
        """Return the same with neighbours, but without vectors and words: where co-purchases come from."""

    @abstractmethod
    def segment(self, name: str) -> Mapping[str, float]:
        """Return the most popular items of a segment with their scores, nothing for an unknown one."""

    def begin(self, request: Request) -> Mapping[Leg, Future[Any]]:
        """Begin to look for legs that are known before the others; `find` gets them back as `Request.begun`."""
        return {}

    @abstractmethod
    def find(self, request: Request) -> Found:
        """Return the candidates of every leg.

        Raises:
            UsageError: no document has a field that a condition names.
        """

    def fused(self, plan: Plan, query: Query) -> "Ranked | None":
        """Return the hits where the backend fuses by itself and that is all that the query needs, else None."""
        return None

    def requests(self, query: Query) -> list[Sent]:
        """Answer a query and return what was sent to a server for it, in order.

        Raises:
            UsageError: there is no server.
        """
        raise UsageError("the embedded index sends no requests: let VLM4REC_INDEX_URL or --index name a server")

    @abstractmethod
    def close(self) -> None:
        """Release what the index holds."""

    def encode(self, text: str) -> Vector:
        """Return the unit vector of a text, float32 (d,).

        Raises:
            UsageError: the encoder that is here has another revision than the release's.
        """
        from vlm4rec_search.embeddings.encoders import encode_query

        needed = self.meta.encoder
        if self._present() != _revision(needed):
            raise UsageError(
                f"the index was built by the encoder {needed}, here is revision {self._present()} of it: publish again"
                " with `vlm4rec index`"
            )
        return encode_query(text, self._encoder)

    def _present(self) -> str:
        from vlm4rec_search.embeddings.encoders import load_sentence_encoder

        return _revision(load_sentence_encoder(self._encoder).id)

    def __enter__(self) -> Self:
        """Return the index itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the index."""
        self.close()


def _revision(encoder: str) -> str:
    return encoder.rsplit("@", 1)[-1]
