"""The candidates of one request to a server; details of documents are read when they are needed."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np

from vlm4rec_search.common.vectors import Floats, Ints, Vectors, cosines
from vlm4rec_search.indexes.opensearch.aliases import OpenedRelease
from vlm4rec_search.indexes.opensearch.queries import vector_field, words_body
from vlm4rec_search.indexes.opensearch.sender import DFS, Hits, Searched, Sender
from vlm4rec_search.search.backend import ItemGoneError, Retrieved
from vlm4rec_search.search.fusion import Candidates
from vlm4rec_search.search.model import Record, Request, Retriever, Vector
from vlm4rec_search.search.query import Kind

SHOWN = ("title", "category", "price")  # fields of a hit
_Source = Mapping[str, Any]


class OpenSearchRetrieved(Retrieved):
    """The hits of each retriever."""

    def __init__(
        self,
        sender: Sender,
        index: str,
        release: OpenedRelease,
        request: Request,
        found: Sequence[Searched],
        failed: Sequence[str] = (),
    ) -> None:
        """Number the documents in the order of their item ids.

        Args:
            sender: reads the details.
            index: of the items.
            release: that was searched.
            request: that was sent.
            found: of each retriever.
            failed: names of the retrievers that did not answer.
        """
        self.failed, self.seconds, hits = failed, [each.seconds for each in found], [each.hits for each in found]
        self._sender, self._index, self._retrievers = sender, index, request.retrievers
        self._meta, self._shards = release.meta, release.shards
        self._ids = sorted({item for each in hits for _, item in each})
        numbers = {item: number for number, item in enumerate(self._ids)}
        self._sources: dict[str, dict[str, _Source]] = {}
        self._records: dict[str, Record] = {}
        self._word_shares: dict[str, dict[tuple[int, str], float]] = {}
        pairs = zip(request.retrievers, hits, strict=True)
        self.candidates = [_to_candidates(retriever, each, numbers, request.depth) for retriever, each in pairs]

    def records(self, documents: Sequence[int] | Ints) -> list[Record]:
        ids = [self._ids[document] for document in documents]
        missing = [item for item in ids if item not in self._records]
        self._records |= zip(missing, read_records(self._sender, self._index, missing), strict=True)
        return [self._records[item] for item in ids]

    def ids(self, documents: Ints) -> list[str]:
        return [self._ids[document] for document in documents]

    def vectors(self, documents: Ints, kind: Kind = "semantic") -> Vectors:
        of_some = {"fitted": self._meta.fitted_dimension, "photo": self._meta.image_dimension}
        dimension = of_some.get(kind, self._meta.dimension) or 0
        vectors = [vector_of(vector, dimension) for vector in self._read(documents, vector_field(kind))]
        return np.array(vectors, dtype=np.float32).reshape(len(vectors), dimension)

    def facets(self, documents: Ints) -> list[Mapping[str, Sequence[str]]]:
        return [facets_of(facets) for facets in self._read(documents, "facets", {})]

    def scores(self, documents: Ints) -> Floats:
        columns = [self._score(number, each, documents) for number, each in enumerate(self._retrievers)]
        return np.stack(columns, axis=1).round(6)

    def _score(self, number: int, retriever: Retriever, documents: Ints) -> Floats:
        if retriever.vector is not None:
            return cosines(self.vectors(documents, retriever.kind), retriever.vector).astype(np.float64)
        ids = [self._ids[document] for document in documents]
        if retriever.items:
            scores = [retriever.items.get(item, 0.0) for item in ids]
        elif retriever.kind == "popularity":
            scores = self._read(documents, "popularity", 0.0)
        else:
            shares = self._read_word_shares(ids)
            scores = [sum(share for (owner, _), share in shares[item].items() if owner == number) for item in ids]
        return _as_float32(scores)

    def words(self, documents: Ints) -> list[Mapping[str, float]]:
        ids = [self._ids[document] for document in documents]
        shares = self._read_word_shares(ids)
        return [self._sum_by_form(shares[item]) for item in ids]

    def _sum_by_form(self, shares: Mapping[tuple[int, str], float]) -> dict[str, float]:
        forms: dict[str, float] = {}
        for (number, term), share in shares.items():
            form = self._retrievers[number].words[term].form
            forms[form] = forms.get(form, 0.0) + share
        return forms

    def _read_word_shares(self, ids: Sequence[str]) -> dict[str, dict[tuple[int, str], float]]:
        """Return what each term adds to the score of each item, by the number of its retriever and the term."""
        missing = [item for item in ids if item not in self._word_shares]
        self._word_shares.update({item: {} for item in missing})
        if missing and any(retriever.words for retriever in self._retrievers):
            body = words_body(self._retrievers, missing)
            counted = f"&search_type={DFS}" if self._shards > 1 else ""
            for hit in self._sender.search(self._index, body, f"?include_named_queries_score=true{counted}"):
                # The name of a query is `<number of the retriever> <term>`, see `words_body`.
                named = [(*name.split(" ", 1), score) for name, score in hit["matched_queries"].items()]
                self._word_shares[hit["_id"]] = {(int(number), term): score for number, term, score in named}
        return self._word_shares

    def _read(self, documents: Sequence[int] | Ints, field: str, default: Any = None) -> list[Any]:
        """Return one field of documents, the default where a hand-written document lacks it; each is read once."""
        known = self._sources.setdefault(field, {})
        ids = [self._ids[document] for document in documents]
        known |= self._sender.documents(self._index, [item for item in ids if item not in known], [field])
        _check_present(ids, known, self._index)
        values = [known[item].get(field) for item in ids]
        return [default if value is None else value for value in values]


def _to_candidates(retriever: Retriever, hits: Hits, numbers: Mapping[str, int], depth: int) -> Candidates:
    ids = [item for _, item in hits]
    documents = np.array([numbers[item] for item in ids], dtype=np.int64)
    # For a retriever with items the server only says which of them the filter allows.
    scores = _as_float32([retriever.items[item] for item in ids] if retriever.items else [score for score, _ in hits])
    scores = (2.0 * scores - 1.0 if retriever.vector is not None else scores).round(6)
    order = np.lexsort((documents, -scores))[:depth]
    return Candidates(retriever.name, retriever.kind, documents[order], scores[order])


def _as_float32(scores: Sequence[float]) -> Floats:
    """Round to float32: the server writes float32, and 0.1 has to be the same number as in the embedded index."""
    return np.array(scores, dtype=np.float32).astype(np.float64)


def read_records(sender: Sender, index: str, ids: Sequence[str]) -> list[Record]:
    """Read what hits show from fields that are stored beside the sources.

    Raises:
        ItemGoneError: an item was deleted.
    """
    stored = sender.stored(index, ids, SHOWN)
    _check_present(ids, stored, index)
    return [record_of_stored(item, stored[item]) for item in ids]


def _check_present(ids: Sequence[str], known: Mapping[str, Any], index: str) -> None:
    if gone := [item for item in ids if item not in known]:
        raise ItemGoneError(f"{gone[0]} was deleted from {index} while it was searched: search again")


def vector_of(values: Sequence[float] | None, dimension: int) -> Vector:
    """Return the vector of a document, float32 (d,); a hand-written one may lack it, and zeros are near nothing."""
    return np.array([0.0] * dimension if values is None else values, dtype=np.float32)


def record_of(item_id: str, source: _Source) -> Record:
    """Return what a hit shows of a document; a hand-written document may lack fields."""
    return Record(
        item_id=item_id, title=source.get("title", ""), category=source.get("category"), price=source.get("price")
    )


def record_of_stored(item_id: str, fields: Mapping[str, Sequence[Any]]) -> Record:
    """Return what a hit shows of stored fields, each of which is a list of values."""
    return record_of(item_id, {name: values[0] for name, values in fields.items() if name in SHOWN})


def facets_of(source: Mapping[str, Any] | None) -> Mapping[str, Sequence[str]]:
    """Return the values by field that filters see; a hand-written document may have one value in place of a list."""
    facets = (source or {}).items()
    return {field_of(name): [values] if isinstance(values, str) else values or () for name, values in facets}


def field_of(name: str) -> str:
    """Return the catalogue's field for a name from `mapping.field_name`."""
    return "" if name == "%" else unquote(name)
