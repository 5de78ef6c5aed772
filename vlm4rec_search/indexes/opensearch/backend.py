"""A release on a server as a search index: it looks up and finds candidates, everything else is the shared search."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Self
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from vlm4rec_search.common.concurrency import call_now, start_in_thread
from vlm4rec_search.common.vectors import cosines
from vlm4rec_search.indexes.opensearch import native
from vlm4rec_search.indexes.opensearch.aliases import Catalogue, live, opened
from vlm4rec_search.indexes.opensearch.connection import server_errors
from vlm4rec_search.indexes.opensearch.mapping import Kind, field_name
from vlm4rec_search.indexes.opensearch.queries import allowed, leg_body, words_body
from vlm4rec_search.indexes.opensearch.sender import Hits, ItemGoneError, ReleaseGoneError, Sender
from vlm4rec_search.search.backend import Found, Index, Sent
from vlm4rec_search.search.filters import unknown_field
from vlm4rec_search.search.fusion import Candidates, Floats, Integers
from vlm4rec_search.search.model import Item, Leg, Plan, Ranked, Record, Request, User, item_of, user_of
from vlm4rec_search.search.query import Answer, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule

# What the legs of one request found on a server; details of documents are read when they are asked for.

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


_LISTS = ("terms", "history", "interests", "behaviour", "seen", "categories")
_USER = ("vector", "segment", *_LISTS)
_NEIGHBOURS = ("neighbours.item_id", "neighbours.similarity")
_STRANGER = {"segment": None} | dict.fromkeys(_LISTS, ())  # a profile written by hand may have less than ours


class OpenSearchIndex(Index):
    """One release on a server; it asks the release's own indices, so that an answer never mixes two of them."""

    def __init__(
        self,
        catalogue: Catalogue,
        release: str | None = None,
        encoder: str | None = None,
        ranking: Ranking | None = None,
        rules: Sequence[Rule] = (),
    ) -> None:
        """Open a release.

        Args:
            catalogue: where.
            release: its name; None takes the one that answers, and `close` closes the connections of the catalogue.
            encoder, ranking, rules: see `Index`.

        Raises:
            UsageError: nothing is published there, or the release was built by another encoder or for another package
                version.
            RunError: the server does not answer or refuses.
        """
        self._catalogue, self._follows, self._encoder_asked = catalogue, release is None, encoder
        self._sender = Sender(catalogue.client)
        with server_errors():
            self._release = opened(catalogue, release or live(catalogue))
            self._fuses = native.is_there(self._sender)
        super().__init__(self._release.meta, encoder, ranking, rules)

    def search(self, query: Query) -> Answer:
        """Answer a query; when the release was deleted since it was opened, by the one that answers now."""
        try:
            try:
                return self._search(query)
            except ItemGoneError:  # somebody deletes by hand
                return self._search(query)
        except ReleaseGoneError:
            if not self._follows:
                raise
            fresh = OpenSearchIndex(self._catalogue, None, self._encoder_asked, self.ranking, self.rules)
            vars(self).update(vars(fresh))  # in one step, for whoever copies
            return self._search(query)

    def _search(self, query: Query) -> Answer:
        """Search a copy: another thread may find that the release is gone, and change to the next one meanwhile."""
        return Index.search(copy(self), query)

    def requests(self, query: Query) -> list[Sent]:
        """Answer a query and return what was sent for it, in order."""
        kept: list[Sent] = []
        watched = self._with(replace(self._sender, kept=kept))
        Index.search(watched, query)
        return kept

    def _with(self, sender: Sender) -> Self:
        twin = copy(self)
        twin._sender = sender
        return twin

    def user(self, user_id: str) -> User | None:
        """Return what the release knows of a shopper."""
        found = self._read("profiles", [user_id], _USER)
        return user_of(user_id, {**_STRANGER, **found[user_id]}) if user_id in found else None

    def items(self, item_ids: Sequence[str], *, words: bool = False) -> dict[str, Item]:
        """Return the items that the release has."""
        found = self._read("items", item_ids, (*SHOWN, "vector", *(("words",) if words else ())))
        return {
            item: item_of(record(item, source), source.get("vector", ()), source.get("words", ()))
            for item, source in found.items()
        }

    def sources(self, item_ids: Sequence[str]) -> dict[str, Item]:
        """Return the items that the release has, with their neighbours."""
        found = self._sender.stored(self._release.indices["items"], item_ids, (*SHOWN, *_NEIGHBOURS))
        return {item: item_of(shown(item, fields), neighbours=_neighbours(fields)) for item, fields in found.items()}

    def segment(self, name: str) -> Mapping[str, float]:
        """Return the most popular items of a segment."""
        found = self._read("segments", [name], ("items",))
        return {part["item_id"]: part["score"] for part in found[name]["items"]} if found else {}

    def _read(self, kind: Kind, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        return self._sender.documents(self._release.indices[kind], ids, fields)

    def begin(self, request: Request) -> Mapping[Leg, Future[Mapping[Leg, Hits]]]:
        """Ask for the legs in a thread, or here where requests are kept by their order; a server that fuses waits."""
        if self._fuses or not request.legs:
            return {}
        ask = partial(self._hits, request, request.legs)
        if self._sender.kept is None:
            return dict.fromkeys(request.legs, start_in_thread(ask))
        outcome = call_now(ask)
        self._sender.kept[-1] = replace(self._sender.kept[-1], together=True)
        return dict.fromkeys(request.legs, outcome)

    def find(self, request: Request) -> OpenSearchFound:
        """Return the candidates of every leg; those that are not begun are asked for in one request."""
        hits = self._hits(request, [leg for leg in request.legs if leg not in request.begun])
        found = [(request.begun[leg].result() if leg in request.begun else hits)[leg] for leg in request.legs]
        return OpenSearchFound(self._sender, self._release.indices["items"], request, found)

    def _hits(self, request: Request, legs: Sequence[Leg]) -> Mapping[Leg, Hits]:
        self._check_fields(request)
        release = self._release
        within = allowed(request, release.indices["profiles"])
        bodies = [leg_body(leg, within, request.depth, release.ef_search) for leg in legs]
        return dict(zip(legs, self._sender.hits(release.indices["items"], bodies), strict=True))

    def fused(self, plan: Plan, query: Query) -> Ranked | None:
        """Return the hits of a server that fuses by itself, where the query needs nothing that only we do."""
        if not self._fuses or not native.is_enough(query, self.ranking, self.rules, plan):
            return None
        self._check_fields(plan.request)
        release = self._release
        within = allowed(plan.request, release.indices["profiles"])
        body = native.hybrid_body(plan.request, within, plan.weights, release.ef_search)
        hits = native.best(self._sender.fused(release.indices["items"], body), query.k)
        records = read_records(self._sender, release.indices["items"], [item for _, item in hits])
        return native.ranked(hits, records, len(plan.legs))

    def _check_fields(self, request: Request) -> None:
        for condition in request.conditions:
            if field_name(condition.field) not in self._release.fields:
                unknown_field(condition, [field_of(name) for name in self._release.fields])

    def close(self) -> None:
        """Close the connections, unless they are those of somebody who named the release."""
        if self._follows:
            self._catalogue.client.close()


def _neighbours(fields: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    items, similarities = (fields.get(name, ()) for name in _NEIGHBOURS)
    return dict(zip(items, similarities, strict=False))  # lists of different lengths are nobody's but a hand's
