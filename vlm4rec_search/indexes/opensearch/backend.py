"""A release on a server as a search index: it looks up and finds candidates, everything else is the shared search."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Self

from vlm4rec_search.common.concurrency import called, started
from vlm4rec_search.indexes.opensearch import native
from vlm4rec_search.indexes.opensearch.aliases import Catalogue
from vlm4rec_search.indexes.opensearch.found import SHOWN, OpenSearchFound, field_of, read_records, record, shown
from vlm4rec_search.indexes.opensearch.mapping import Kind, field_name
from vlm4rec_search.indexes.opensearch.opened import live, opened
from vlm4rec_search.indexes.opensearch.queries import allowed, leg_body
from vlm4rec_search.indexes.opensearch.refusals import server_errors
from vlm4rec_search.indexes.opensearch.sender import Hits, ItemGoneError, ReleaseGoneError, Sender
from vlm4rec_search.search.backend import Index
from vlm4rec_search.search.filters import unknown_field
from vlm4rec_search.search.model import Request
from vlm4rec_search.search.planning import Plan
from vlm4rec_search.search.query import Answer, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.reranking import Ranked
from vlm4rec_search.search.retrievers import Item, Leg, User
from vlm4rec_search.search.rows import item_of, user_of
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.sent import Sent

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
            return dict.fromkeys(request.legs, started(ask))
        outcome = called(ask)
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
