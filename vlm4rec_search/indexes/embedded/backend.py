"""The embedded index: an exact scan over the vectors of one release, and BM25 over its postings, in memory."""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vlm4rec_search.common.vectors import Vectors, cosines
from vlm4rec_search.indexes.embedded.store import Mask, Store
from vlm4rec_search.search.backend import Found, Index
from vlm4rec_search.search.fusion import Candidates, Integers
from vlm4rec_search.search.model import Item, Leg, Record, Request, User, Word, item_of, user_of
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule


class EmbeddedIndex(Index):
    """One release of the embedded index, see `open_index`."""

    def __init__(
        self,
        store: Store,
        encoder: str | None = None,
        ranking: Ranking | None = None,
        rules: Sequence[Rule] = (),
    ) -> None:
        """Search an open release, which closes with the index, see `Index`."""
        super().__init__(store.meta, encoder, ranking, rules)
        self.store = store
        self._matching = lru_cache(maxsize=64)(store.matching)  # a release never changes

    def user(self, user_id: str) -> User | None:
        """Return what the release knows of a shopper."""
        row = self.store.user(user_id)
        return None if row is None else user_of(user_id, row)

    def items(self, item_ids: Sequence[str], *, words: bool = False) -> dict[str, Item]:
        """Return the items that the release has."""
        documents = self._places(item_ids)
        terms = self.store.words(documents) if words else {}
        rows = zip(documents, self.store.records(documents), strict=True)
        return {
            record["item_id"]: item_of(record, self.store.vectors[document], terms.get(document, ()))
            for document, record in rows
        }

    def sources(self, item_ids: Sequence[str]) -> dict[str, Item]:
        """Return the items that the release has, with their neighbours."""
        documents = self._places(item_ids)
        rows = zip(documents, self.store.records(documents), strict=True)
        return {
            record["item_id"]: item_of(record, neighbours=self.store.neighbours_of(document))
            for document, record in rows
        }

    def _places(self, item_ids: Sequence[str]) -> list[int]:
        return [self.store.numbers[item] for item in item_ids if item in self.store.numbers]

    def segment(self, name: str) -> Mapping[str, float]:
        """Return the most popular items of a segment."""
        return self.store.segment(name)

    def find(self, request: Request) -> "EmbeddedFound":
        """Return the candidates of every leg."""
        return EmbeddedFound(self.store, request, self._allowed(request))

    def _allowed(self, request: Request) -> Mask | None:
        masks = [self._matching(condition) for condition in request.conditions]
        left_out = [*(request.user.seen if request.user else ()), *request.without]
        if left_out:
            unseen = np.ones(self.meta.documents, dtype=np.bool_)
            unseen[[self.store.numbers[item] for item in left_out if item in self.store.numbers]] = False
            masks.append(unseen)
        return np.logical_and.reduce(masks) if masks else None

    def close(self) -> None:
        """Close the release's file."""
        self.store.close()


class EmbeddedFound(Found):
    """The scores of all documents in every leg, and the best of them."""

    def __init__(self, store: Store, request: Request, allowed: Mask | None) -> None:
        self._store, self._legs = store, request.legs
        self._scores = [self._score(leg) for leg in request.legs]
        pairs = zip(request.legs, self._scores, strict=True)
        self.candidates = [top_candidates(leg, scores, allowed, request.depth) for leg, scores in pairs]

    def _score(self, leg: Leg) -> Vectors:
        """Return the score of every document in one leg, float32 (n,)."""
        if leg.vector is not None:
            return cosines(self._store.vectors, leg.vector)
        if leg.items:
            return self._listed(leg.items)
        if leg.kind == "popularity":
            return self._store.popularity
        rows, weights = self._store.rows({term: word.weight for term, word in leg.words.items()})
        scores: Vectors = self._store.postings[rows].T @ weights
        return scores

    def _listed(self, items: Mapping[str, float]) -> Vectors:
        places = self._store.numbers
        known = [(places[item], score) for item, score in items.items() if item in places]
        scores = np.zeros(len(places), dtype=np.float32)
        scores[[place for place, _ in known]] = [score for _, score in known]
        return scores

    def records(self, documents: Sequence[int] | Integers) -> list[Record]:
        """Return what hits show."""
        return [Record(**row) for row in self._store.records(documents)]  # type: ignore[typeddict-item]

    def vectors(self, documents: Integers) -> Vectors:
        """Return the vectors of documents."""
        return self._store.vectors[documents]

    def facets(self, documents: Integers) -> list[Mapping[str, Sequence[str]]]:
        """Return the values that filters see."""
        return list(self._store.facets(documents.tolist()))

    def scores(self, documents: Integers) -> npt.NDArray[np.float64]:
        """Return each leg's score of documents."""
        return np.stack([scores[documents] for scores in self._scores], axis=1).astype(np.float64).round(6)

    def words(self, documents: Integers) -> list[Mapping[str, float]]:
        """Return what each word adds."""
        words, block = self._matched
        scores = block[:, documents].toarray()
        return [_by_form(words, scores[:, column]) for column in range(len(documents))]

    @cached_property
    def _matched(self) -> tuple[list[Word], Any]:
        """Return the words that the postings have, and their rows."""
        known = [(self._store.terms[term], word) for leg in self._legs for term, word in leg.words.items()
                 if term in self._store.terms]  # fmt: skip
        return [word for _, word in known], self._store.postings[[row for row, _ in known]]


def top_candidates(leg: Leg, scores: Vectors, allowed: Mask | None, depth: int) -> Candidates:
    """Return the best documents of a leg among the allowed ones, equal scores by document.

    Args:
        leg: a leg of words or listed items finds only documents with a score above 0.
        scores: float32 (n,), one for each document.
        allowed: bool (n,), None for all.
        depth: how many at most.
    """
    usable = scores > 0.0 if leg.kind == "lexical" or leg.items else None
    if allowed is not None:
        usable = allowed if usable is None else usable & allowed
    documents = np.arange(len(scores)) if usable is None else np.flatnonzero(usable)
    values = scores if usable is None else scores[documents]
    if len(values) > depth:
        lowest = np.partition(values, len(values) - depth)[len(values) - depth]
        kept = np.flatnonzero(values >= lowest)
        documents, values = documents[kept], values[kept]
    order = np.argsort(-values, kind="stable")[:depth]
    return Candidates(leg.name, leg.kind, documents[order].astype(np.int64), values[order].astype(np.float64).round(6))


def _by_form(words: Sequence[Word], scores: Vectors) -> dict[str, float]:
    shares: dict[str, float] = {}
    for word, score in zip(words, scores, strict=True):
        shares[word.form] = shares.get(word.form, 0.0) + float(score) * word.weight
    return shares
