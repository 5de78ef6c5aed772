"""What the legs of one request found on a server; details of documents are read when they are asked for."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from vlm4rec_search.common.vectors import cosines
from vlm4rec_search.indexes.opensearch.queries import words_body
from vlm4rec_search.indexes.opensearch.sender import Hits, ItemGoneError, Sender
from vlm4rec_search.search.backend import Found, Record
from vlm4rec_search.search.fusion import Candidates, Floats, Integers
from vlm4rec_search.search.model import Request
from vlm4rec_search.search.retrievers import Leg

SHOWN = ("title", "category", "price")
_Source = Mapping[str, Any]


class OpenSearchFound(Found):
    """The hits of each leg."""

    def __init__(self, sender: Sender, index: str, request: Request, hits: Sequence[Hits]) -> None:
        """Number the documents of the answers, `hits` of each leg, from the index of items."""
        self._sender, self._index, self._legs, self._depth = sender, index, request.legs, request.depth
        self._ids = sorted({item for found in hits for _, item in found})
        self._numbers = {item: number for number, item in enumerate(self._ids)}
        self._sources: dict[tuple[str, ...], dict[str, _Source]] = {}
        self._records: dict[str, Record] = {}
        self.candidates = [self._candidates(leg, found) for leg, found in zip(self._legs, hits, strict=True)]

    def _candidates(self, leg: Leg, hits: Hits) -> Candidates:
        items = [item for _, item in hits]
        documents = np.array([self._numbers[item] for item in items], dtype=np.int64)
        # of listed items the server only says which are allowed
        told = [leg.items[item] for item in items] if leg.items else [score for score, _ in hits]
        # the server writes float32: without this 0.1 would be another number than the embedded index has
        scores = np.array(told, dtype=np.float32).astype(np.float64)
        scores = (2.0 * scores - 1.0 if leg.vector is not None else scores).round(6)
        order = np.lexsort((documents, -scores))[: self._depth]
        return Candidates(leg.name, leg.kind, documents[order], scores[order])

    def records(self, documents: Sequence[int] | Integers) -> list[Record]:
        """Return what hits show."""
        ids = [self._ids[document] for document in documents]
        missing = [item for item in ids if item not in self._records]
        self._records |= zip(missing, read_records(self._sender, self._index, missing), strict=True)
        return [self._records[item] for item in ids]

    def vectors(self, documents: Integers) -> npt.NDArray[np.float32]:
        """Return the vectors of documents."""
        return np.array([source["vector"] for _, source in self._read(documents, "vector")], dtype=np.float32)

    def facets(self, documents: Integers) -> list[Mapping[str, Sequence[str]]]:
        """Return the values that filters see."""
        return [{field_of(name): values for name, values in source["facets"].items()}
                for _, source in self._read(documents, "facets")]  # fmt: skip

    def scores(self, documents: Integers) -> Floats:
        """Return each leg's score of documents."""
        columns = [self._scores(place, leg, documents) for place, leg in enumerate(self._legs)]
        return np.stack(columns, axis=1).round(6)

    def _scores(self, place: int, leg: Leg, documents: Integers) -> Floats:
        if leg.vector is not None:
            return cosines(self.vectors(documents), leg.vector).astype(np.float64)
        ids = [self._ids[document] for document in documents]
        if leg.items:
            scores = [leg.items.get(item, 0.0) for item in ids]
        elif leg.kind == "popularity":
            scores = [source.get("popularity", 0.0) for _, source in self._read(documents, "popularity")]
        else:
            scores = [sum(share for (leg_place, _), share in self._shares(ids)[item].items() if leg_place == place)
                      for item in ids]  # fmt: skip
        return np.array(scores, dtype=np.float32).astype(np.float64)

    def words(self, documents: Integers) -> list[Mapping[str, float]]:
        """Return what each word adds."""
        ids = [self._ids[document] for document in documents]
        found = self._shares(ids)
        return [self._by_form(found[item]) for item in ids]

    def _by_form(self, shares: Mapping[tuple[int, str], float]) -> dict[str, float]:
        forms: dict[str, float] = {}
        for (place, term), share in shares.items():
            form = self._legs[place].words[term].form
            forms[form] = forms.get(form, 0.0) + share
        return forms

    def _shares(self, ids: Sequence[str]) -> dict[str, dict[tuple[int, str], float]]:
        """Return what each word adds to the score of each item, by the place of its leg and the term."""
        missing = [item for item in ids if item not in self._told]
        self._told.update({item: {} for item in missing})
        if missing and any(leg.words for leg in self._legs):
            body = words_body(self._legs, missing)
            for hit in self._sender.search(self._index, body, "?include_named_queries_score=true"):
                self._told[hit["_id"]] = {_place(name): score for name, score in hit["matched_queries"].items()}
        return self._told

    @cached_property
    def _told(self) -> dict[str, dict[tuple[int, str], float]]:
        return {}

    def _read(self, documents: Sequence[int] | Integers, *fields: str) -> list[tuple[str, _Source]]:
        """Return id and fields of documents; what was read is kept."""
        known = self._sources.setdefault(fields, {})
        ids = [self._ids[document] for document in documents]
        known |= self._sender.documents(self._index, [item for item in ids if item not in known], fields)
        _check_all_there(ids, known, self._index)
        return [(item, known[item]) for item in ids]


def read_records(sender: Sender, index: str, ids: Sequence[str]) -> list[Record]:
    """Read what hits show of items, from fields that are stored beside the sources.

    Raises:
        ItemGoneError: one of them was deleted.
    """
    found = sender.stored(index, ids, SHOWN)
    _check_all_there(ids, found, index)
    return [shown(item, found[item]) for item in ids]


def _check_all_there(ids: Sequence[str], known: Mapping[str, _Source], index: str) -> None:
    """Refuse to go on where one of the items was not found.

    Raises:
        ItemGoneError: it was deleted.
    """
    if gone := [item for item in ids if item not in known]:
        raise ItemGoneError(f"{gone[0]} was deleted from {index} while it was searched: search again")


def record(item_id: str, source: _Source) -> Record:
    """Return what a hit shows of its document."""
    # a document that somebody wrote by hand may have less than ours
    return Record(
        item_id=item_id, title=source.get("title", ""), category=source.get("category"), price=source.get("price")
    )


def shown(item_id: str, fields: Mapping[str, Sequence[Any]]) -> Record:
    """Return the same of stored fields, which are lists."""
    return record(item_id, {name: values[0] for name, values in fields.items()})


def field_of(name: str) -> str:
    """Return the field of the catalogue that `mapping.field_name` has given a name."""
    return "" if name == "%" else unquote(name)


def _place(name: str) -> tuple[int, str]:
    place, _, term = name.partition(" ")
    return int(place), term
