"""The embedded backend: a scan over the vectors of one release, and BM25 over its postings.

The scan is exact. In a large release the signs of vectors say which documents are scored exactly, see `shortlist.py`.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from vlm4rec_search.common.concurrency import usable_cores
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.turns import Turns
from vlm4rec_search.common.vectors import Floats, Ints, Mask, Vectors, cosines
from vlm4rec_search.indexes.embedded.neighbours import StoredNeighbours
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.indexes.rows import to_document, to_item, to_user
from vlm4rec_search.search.backend import MAX_VALUES, Backend, Reader, Retrieved, SentRequest
from vlm4rec_search.search.fusion import Candidates
from vlm4rec_search.search.model import Document, Item, Record, Request, Retriever, User, Word
from vlm4rec_search.search.query import ItemToItem, Kind
from vlm4rec_search.search.release import ReleaseMeta

TURNS = Turns(usable_cores() + 1)
"""Of all threads that search folders in this process; one more than cores, since a search also waits for its file."""
_FEW = 8  # where at most one in so many documents is allowed, reading these alone is faster than the scan of all


class EmbeddedBackend(Backend, Reader):
    """One release in memory; it never changes, so that one reader serves every query."""

    turns = TURNS

    def __init__(self, store: Store) -> None:
        """Read from an open release, which closes with the backend."""
        self.store = store
        self._matching = lru_cache(maxsize=64)(store.matching)

    @property
    def release(self) -> ReleaseMeta:
        return self.store.meta

    def reader(self, sent: list[SentRequest] | None = None) -> Reader:
        """Return the backend itself.

        Raises:
            UsageError: `sent` is given: the embedded index sends no requests.
        """
        if sent is not None:
            raise UsageError("the embedded index sends no requests: let VLM4REC_INDEX_URL or --index name a server")
        return self

    @property
    def fields(self) -> frozenset[str]:
        return self.store.fields

    def values(self, field: str) -> Sequence[str]:
        return self.store.values(field, MAX_VALUES)

    def user(self, user_id: str, *, interests: bool = False) -> User | None:
        row = self.store.user(user_id, interests)
        return None if row is None else to_user(user_id, row)

    def items(self, item_ids: Sequence[str], *, words: bool = False, photos: bool = False) -> dict[str, Item]:
        documents = self._documents(item_ids)
        terms = self.store.words(documents) if words else {}
        rows = zip(documents, self.store.records(documents), strict=True)
        return {
            record["item_id"]: to_item(
                record,
                self.store.vectors[document],
                terms.get(document, ()),
                fitted=self.store.fitted[document] if self.store.is_fitted[document] else None,
                photo=self.store.photos[document] if photos and self.store.has_photo[document] else None,
            )
            for document, record in rows
        }

    def documents(self, item_ids: Sequence[str]) -> dict[str, Document]:
        return {item: to_document(row) for item, row in self.store.documents(item_ids).items()}

    def neighbours(self, item_ids: Sequence[str], kinds: Collection[ItemToItem]) -> StoredNeighbours:
        return StoredNeighbours(self.store, item_ids)

    def _documents(self, item_ids: Sequence[str]) -> list[int]:
        return [self.store.numbers[item] for item in item_ids if item in self.store.numbers]

    def popular(self, segment: str) -> Mapping[str, float]:
        return self.store.segment(segment)

    def retrieve(self, request: Request) -> "EmbeddedRetrieved":
        return EmbeddedRetrieved(self.store, request.retrievers, self.allowed(request), request.depth)

    def allowed(self, request: Request) -> Mask | None:
        """Return which documents the request may return, bool (n,), None for all."""
        masks = [self._matching(condition) for condition in request.conditions]
        excluded = self._documents([*(request.user.seen if request.user else ()), *request.without])
        if excluded:
            is_left = np.ones(self.release.documents, dtype=np.bool_)
            is_left[excluded] = False
            masks.append(is_left)
        return np.logical_and.reduce(masks) if masks else None

    def close(self) -> None:
        self.store.close()


class EmbeddedRetrieved(Retrieved):
    """The best documents of every retriever, and the scores of any document."""

    def __init__(
        self,
        store: Store,
        retrievers: Sequence[Retriever],
        allowed: Mask | None,
        depth: int,
        candidates: Sequence[Candidates] | None = None,
    ) -> None:
        """Find the candidates of every retriever, unless they are known.

        Args:
            store: the release.
            retrievers: of the request.
            allowed: which documents may be candidates, bool (n,), None for all.
            depth: the most candidates of each retriever.
            candidates: of each retriever, from `retrieve_block`.
        """
        self._store, self._retrievers = store, retrievers
        if candidates is None:
            candidates, ends = [], [time.perf_counter()]
            for each in retrievers:
                candidates.append(find_candidates(store, each, allowed, depth))
                ends.append(time.perf_counter())
            self.seconds = [after - before for before, after in pairwise(ends)]
        self.candidates = candidates

    def records(self, documents: Sequence[int] | Ints) -> list[Record]:
        return [Record(**row) for row in self._store.records(documents)]  # type: ignore[typeddict-item]

    def ids(self, documents: Ints) -> list[str]:
        return self._store.ids(documents)

    def vectors(self, documents: Ints, kind: Kind = "semantic") -> Vectors:
        return self._store.vectors_of(kind)[documents]

    def facets(self, documents: Ints) -> list[Mapping[str, Sequence[str]]]:
        return list(self._store.facets(documents))

    def scores(self, documents: Ints) -> Floats:
        columns = [score(self._store, retriever, documents) for retriever in self._retrievers]
        return np.stack(columns, axis=1).astype(np.float64).round(6)

    def words(self, documents: Ints) -> list[Mapping[str, float]]:
        known = [
            (self._store.terms[term], word)
            for retriever in self._retrievers
            for term, word in retriever.words.items()
            if term in self._store.terms
        ]
        scores = self._store.postings_of([row for row, _ in known], documents)
        return [_sum_by_form([word for _, word in known], column) for column in scores.T.tolist()]


def find_candidates(store: Store, retriever: Retriever, allowed: Mask | None, depth: int) -> Candidates:
    """Return the best documents of a retriever.

    Args:
        store: the release.
        retriever: the retriever.
        allowed: which documents may be candidates, bool (n,), None for all.
        depth: the most candidates.
    """
    if retriever.items:
        return item_candidates(store, retriever, allowed, depth)
    allowed = findable(store, retriever, allowed)
    documents = None if retriever.vector is None else _to_score(store, retriever.kind, retriever.vector, allowed, depth)
    if documents is None:
        return top_candidates(retriever, score(store, retriever), allowed, depth)
    return best_candidates(retriever, documents, score(store, retriever, documents), depth)


def _to_score(store: Store, kind: Kind, vector: Vectors, allowed: Mask | None, depth: int) -> Ints | None:
    """Return the documents whose cosines have to be computed, ascending, None for all: few are allowed, or near."""
    if allowed is not None and np.count_nonzero(allowed) * _FEW <= len(allowed):
        return np.flatnonzero(allowed)
    shortlist = store.shortlists.get(kind)
    return None if shortlist is None else shortlist.documents(vector, allowed, depth)


def score(store: Store, retriever: Retriever, documents: Ints | None = None) -> Vectors:
    """Return the score of documents in one retriever, float32 (b,); it does not depend on the other documents.

    Args:
        store: the release.
        retriever: the retriever.
        documents: int64 (b,), None for all.
    """
    if retriever.vector is not None:
        vectors = store.vectors_of(retriever.kind)
        return cosines(vectors if documents is None else vectors[documents], retriever.vector)
    if retriever.items:
        ids = store.numbers if documents is None else store.ids(documents)
        return np.array([retriever.items.get(item, 0.0) for item in ids], dtype=np.float32)
    if retriever.kind == "popularity":
        scores = store.popularity
    else:
        rows, weights = store.rows({term: word.weight for term, word in retriever.words.items()})
        if documents is None:
            words: Vectors = store.postings[rows].T @ weights
            return words
        # Added up term by term in float32, as the product does: the sums are equal to the last bit.
        scores = np.zeros(len(documents), dtype=np.float32)
        for of_term, weight in zip(store.postings_of(rows, documents), weights, strict=True):
            scores += of_term * weight
        return scores
    return scores if documents is None else scores[documents]


def _documents_of(store: Store, items: Mapping[str, float]) -> tuple[Ints, Vectors]:
    """Return the documents of items that the release has, and their scores, float32 (b,)."""
    try:
        places = list(map(store.numbers.__getitem__, items))  # three times as fast as `get`
    except KeyError:
        items = {item: value for item, value in items.items() if item in store.numbers}
        places = list(map(store.numbers.__getitem__, items))
    return np.array(places, dtype=np.int64), np.array(list(items.values()), dtype=np.float32)


def item_candidates(store: Store, retriever: Retriever, allowed: Mask | None, depth: int) -> Candidates:
    """Return the best documents of a retriever with items, as `top_candidates` does, among its items only."""
    documents, values = _documents_of(store, retriever.items)
    usable = values > 0.0 if allowed is None else (values > 0.0) & allowed[documents]
    documents, values = documents[usable], values[usable]
    order = np.argsort(documents)
    return best_candidates(retriever, documents[order], values[order], depth)


def findable(store: Store, retriever: Retriever, allowed: Mask | None) -> Mask | None:
    """Return which documents a retriever may return: fitted and photo find only those with such a vector."""
    some = store.some_of(retriever.kind)
    if some is None:
        return allowed
    return some if allowed is None else some & allowed


def top_candidates(retriever: Retriever, scores: Vectors, allowed: Mask | None, depth: int) -> Candidates:
    """Return the best documents of a retriever among the allowed ones, equal scores by document.

    Args:
        retriever: one without items; one with words finds only documents with a score above 0.
        scores: float32 (n,), one for each document.
        allowed: bool (n,), None for all.
        depth: the most candidates.
    """
    usable = scores > 0.0 if retriever.kind == "lexical" else None
    if allowed is not None:
        usable = allowed if usable is None else usable & allowed
    documents = np.arange(len(scores)) if usable is None else np.flatnonzero(usable)
    return best_candidates(retriever, documents, scores if usable is None else scores[documents], depth)


def best_candidates(retriever: Retriever, documents: Ints, values: Vectors, depth: int) -> Candidates:
    """Return the best of some documents (b,), ascending, by their scores, float32 (b,); equal scores by document."""
    if len(values) > depth:
        lowest = np.partition(values, len(values) - depth)[len(values) - depth]
        near = np.flatnonzero(values >= lowest)
        documents, values = documents[near], values[near]
    order = np.argsort(-values, kind="stable")[:depth]
    best_scores = values[order].astype(np.float64).round(6)
    return Candidates(retriever.name, retriever.kind, documents[order].astype(np.int64), best_scores)


def _sum_by_form(words: Sequence[Word], scores: Sequence[float]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for word, score in zip(words, scores, strict=True):
        shares[word.form] = shares.get(word.form, 0.0) + score * word.weight
    return shares
