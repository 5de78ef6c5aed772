"""The popular items of a release in memory, for answers while the server is away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from vlm4rec_search.common.vectors import Floats, Ints, Vectors
from vlm4rec_search.indexes.opensearch.retrieved import SHOWN, facets_of, record_of
from vlm4rec_search.indexes.opensearch.sender import Sender
from vlm4rec_search.search.backend import Retrieved
from vlm4rec_search.search.fusion import Candidates
from vlm4rec_search.search.model import Record, Request, Retriever
from vlm4rec_search.search.query import Kind

ITEMS = 1_000  # items
_MOST_POPULAR = {
    "size": ITEMS,
    "query": {"match_all": {}},
    "sort": [{"popularity": {"order": "desc", "missing": 0}}, "item_id"],
    "_source": [*SHOWN, "facets"],
    "track_total_hits": False,
}


@dataclass(frozen=True)
class PopularItems:
    """The most popular items of a release, in the order of their ids: what hits show, what filters see, and scores."""

    records: Sequence[Record]
    facets: Sequence[Mapping[str, Sequence[str]]]
    scores: Floats

    @classmethod
    def read(cls, sender: Sender, index: str) -> Self:
        """Read the `ITEMS` most popular items.

        Raises:
            UnavailableError: the server does not answer in time.
        """
        hits = sorted(sender.search(index, _MOST_POPULAR), key=lambda hit: str(hit["_id"]))
        return cls(
            [record_of(hit["_id"], hit["_source"]) for hit in hits],
            [facets_of(hit["_source"].get("facets")) for hit in hits],
            np.array([hit["sort"][0] for hit in hits], dtype=np.float64).round(6),
        )

    def retrieve(self, request: Request) -> "PopularRetrieved":
        """Return the candidates of a request among these items."""
        return PopularRetrieved(self, request)


class PopularRetrieved(Retrieved):
    """The allowed ones of the items in memory: all of them for popularity, else those of the retriever."""

    def __init__(self, items: PopularItems, request: Request) -> None:
        """Choose the candidates of each retriever."""
        self._items = items
        without = {*(request.user.seen if request.user else ()), *request.without}
        allowed = [
            number
            for number, (record, facets) in enumerate(zip(items.records, items.facets, strict=True))
            if record["item_id"] not in without and all(each.matches(facets) for each in request.conditions)
        ]
        self.candidates = [self._candidates(each, allowed, request.depth) for each in request.retrievers]

    def _candidates(self, retriever: Retriever, allowed: Sequence[int], depth: int) -> Candidates:
        if retriever.items:
            allowed = [number for number in allowed if self._items.records[number]["item_id"] in retriever.items]
        documents = np.array(allowed, dtype=np.int64)
        scores = self._score(retriever, documents)
        order = np.argsort(-scores, kind="stable")[:depth]
        return Candidates(retriever.name, retriever.kind, documents[order], scores[order])

    def _score(self, retriever: Retriever, documents: Ints) -> Floats:
        if not retriever.items:
            return self._items.scores[documents]
        ids = [self._items.records[document]["item_id"] for document in documents]
        return np.array([retriever.items[item] for item in ids], dtype=np.float64)

    def records(self, documents: Sequence[int] | Ints) -> list[Record]:
        return [self._items.records[document] for document in documents]

    def vectors(self, documents: Ints, kind: Kind = "semantic") -> Vectors:
        """Return vectors without a direction: they are not kept in memory."""
        return np.zeros((len(documents), 1), dtype=np.float32)

    def facets(self, documents: Ints) -> list[Mapping[str, Sequence[str]]]:
        return [self._items.facets[document] for document in documents]

    def scores(self, documents: Ints) -> Floats:
        return np.stack([self._items.scores[documents] for _ in self.candidates], axis=1)

    def words(self, documents: Ints) -> list[Mapping[str, float]]:
        return [{} for _ in documents]
