"""A release on a server: reads the facts of a query and retrieves the candidates."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from vlm4rec_search.common.concurrency import call_now, start_in_thread
from vlm4rec_search.common.errors import UsageError, Vlm4recError
from vlm4rec_search.indexes.opensearch import native
from vlm4rec_search.indexes.opensearch.aliases import OpenedRelease, ReleaseCatalogue, find_live_release, read_release
from vlm4rec_search.indexes.opensearch.connection import server_errors
from vlm4rec_search.indexes.opensearch.limits import LIMITS, Limits
from vlm4rec_search.indexes.opensearch.mapping import Body, IndexKind, field_name, vector_fields
from vlm4rec_search.indexes.opensearch.popular import PopularItems
from vlm4rec_search.indexes.opensearch.queries import allowed, retriever_body
from vlm4rec_search.indexes.opensearch.reads import CircuitBreaker, Reads
from vlm4rec_search.indexes.opensearch.retrieved import (
    SHOWN,
    OpenSearchRetrieved,
    field_of,
    read_records,
    record_of,
    record_of_stored,
    vector_of,
)
from vlm4rec_search.indexes.opensearch.sender import Searched, Sender, serialise_search
from vlm4rec_search.indexes.release import DamagedIndexError
from vlm4rec_search.indexes.rows import DOCUMENT_FIELDS, to_document, to_item, to_user
from vlm4rec_search.search.backend import MAX_VALUES, Backend, Reader, Retrieved, SentRequest, UnavailableError
from vlm4rec_search.search.filters import check_field
from vlm4rec_search.search.model import Document, Item, Neighbours, Plan, Ranked, Request, User
from vlm4rec_search.search.query import ItemToItem
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.retrievers import ReadNeighbours

_LISTS = ("terms", "history", "behaviour", "shoppers", "repeats", "seen", "categories")
_PROFILE_FIELDS = ("vector", "fitted", "segment", *_LISTS)
_EMPTY_PROFILE = {"segment": None} | dict.fromkeys(_LISTS, ())  # a hand-written profile may lack fields
_FIELDS_OF: Mapping[ItemToItem, tuple[str, str]] = {
    "behaviour": ("neighbours.item_id", "neighbours.similarity"),
    "ease": ("ease.item_id", "ease.weight"),
}
_LOOK_UP = 0.5  # share of the time that is left for a look-up without which there is an answer, too
_RETRIEVAL = 0.75  # and for the candidates: the rest is for what their hits show
logger = logging.getLogger(__name__)

_BETWEEN_LOOKS = 1.0  # seconds between two looks for a release in place of one that is gone, which all searches share


@dataclass(frozen=True)
class ReleaseState:
    """What the backend keeps of the release that it reads; it is replaced as a whole.

    Attributes:
        release: the release.
        popular: its popular items, for answers without the server.
        is_last: whether an index of it is gone and no other release can be opened.
    """

    release: OpenedRelease
    popular: PopularItems
    is_last: bool = False


class OpenSearchBackend(Backend):
    """One release on a server. Requests name the release's own indices, so that an answer never mixes two releases."""

    def __init__(self, catalogue: ReleaseCatalogue, release: str | None = None, limits: Limits = LIMITS) -> None:
        """Open a release.

        Args:
            catalogue: of the server's releases.
            release: its name; None opens the release that answers, and `close` closes the catalogue's connections.
            limits: how long a search waits for the server.

        Raises:
            UsageError: nothing is published there, or the release was built for another package version.
            RunError: the server does not answer or refuses.
        """
        self._catalogue, self._follows_alias = catalogue, release is None
        self._limits, self._breaker, self._next_look = limits, CircuitBreaker(), 0.0
        with ExitStack() as opened:
            opened.callback(self.close)
            self._opened = self._open(release)
            with server_errors():
                self._can_fuse = self._reads().until_answered(lambda _: native.is_installed(Sender(catalogue.client)))
            opened.pop_all()

    def _reads(self) -> Reads:
        return Reads.begin(self._limits, self._breaker)

    def _open(self, name: str | None) -> ReleaseState:
        """Read the parts of a release that a backend keeps, None for those of the release that answers."""
        catalogue, reads = self._catalogue, self._reads()
        with server_errors():
            release = reads.until_answered(lambda _: read_release(catalogue, name or find_live_release(catalogue)))
        return ReleaseState(release, PopularItems.read(Sender(catalogue.client, reads=reads), release.indices["items"]))

    @property
    def release(self) -> ReleaseMeta:
        return self._opened.release.meta

    def reader(self, sent: list[SentRequest] | None = None) -> "OpenSearchReader":
        """Return a reader that stays with the release that is open now."""
        if self._opened.is_last and (now := time.monotonic()) >= self._next_look:
            self._next_look = now + _BETWEEN_LOOKS
            with suppress(Vlm4recError):
                self.reopen()  # one may have been published since
        opened = self._opened
        sender = Sender(self._catalogue.client, sent, self._reads(), opened.is_last)
        return OpenSearchReader(sender, opened, self._can_fuse)

    def live(self) -> str | None:
        """Return the name of the live release, None for a backend that was opened for a named release."""
        if not self._follows_alias:
            return None
        with server_errors():
            return self._reads().until_answered(lambda _: find_live_release(self._catalogue))

    def reopen(self) -> bool:
        """Open the release that answers now, unless the backend was opened for a named release.

        Where there is none, the old one stays open: searches that need its deleted parts are answered from memory.
        """
        if not self._follows_alias:
            return False
        try:
            live = self.live()
        except (DamagedIndexError, UsageError) as error:  # a server that does not answer is another matter
            if not self._opened.is_last:
                logger.error("no other release can be opened: %s", error)
            self._opened = replace(self._opened, is_last=True)
        else:
            self._opened = self._open(live)
        return True

    def close(self) -> None:
        """Close the connections; those of a caller who named the release stay open."""
        if self._follows_alias:
            self._catalogue.client.close()


class OpenSearchReader(Reader):
    """Reads one release for one query, within the deadline of the sender."""

    def __init__(self, sender: Sender, opened: ReleaseState, can_fuse: bool) -> None:
        self._sender, self._release, self._popular, self._can_fuse = sender, opened.release, opened.popular, can_fuse
        self._failed: list[str] = []
        self._early_bodies: list[bytes] = []
        self._early_hits: Future[list[Searched | None]] = Future()

    @property
    def release(self) -> ReleaseMeta:
        return self._release.meta

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(map(field_of, self._release.fields))

    def values(self, field: str) -> Sequence[str]:
        index, name = self._release.indices["items"], f"facets.{field_name(field)}"
        return sorted(self._sender.values(index, name, MAX_VALUES))

    def user(self, user_id: str, *, interests: bool = False) -> User | None:
        index = self._release.indices["profiles"]
        fields = (*_PROFILE_FIELDS, "interests") if interests else _PROFILE_FIELDS
        profiles = self._sender.within(_LOOK_UP).documents(index, [user_id], fields)
        return to_user(user_id, {**_EMPTY_PROFILE, **profiles[user_id]}) if user_id in profiles else None

    def known_users(self, user_ids: Sequence[str]) -> set[str]:
        return set(self._read("profiles", user_ids, ("segment",)))

    def items(self, item_ids: Sequence[str], *, words: bool = False, photos: bool = False) -> dict[str, Item]:
        vectors = [field for field in vector_fields(self._release.meta) if photos or field != "photo"]
        sources = self._read("items", item_ids, (*SHOWN, *vectors, *(("words",) if words else ())))
        dimension = self._release.meta.dimension
        return {
            item: to_item(
                record_of(item, source),
                vector_of(source.get("vector"), dimension),
                source.get("words") or (),
                fitted=source.get("fitted"),
                photo=source.get("photo"),
            )
            for item, source in sources.items()
        }

    def documents(self, item_ids: Sequence[str]) -> dict[str, Document]:
        sources = self._read("items", item_ids, DOCUMENT_FIELDS)
        return {item: to_document({"item_id": item, **source}) for item, source in sources.items()}

    def neighbours(self, item_ids: Sequence[str], kinds: Collection[ItemToItem]) -> Neighbours:
        fields = (*SHOWN, *(name for kind in kinds for name in _FIELDS_OF[kind]))
        try:
            stored = self._sender.within(_LOOK_UP).stored(self._release.indices["items"], item_ids, fields)
        except UnavailableError:
            self._failed.append("what is chosen together")
            return ReadNeighbours({})
        items = {
            item: to_item(
                record_of_stored(item, fields),
                neighbours=_pairs_of(fields, _FIELDS_OF["behaviour"]),
                ease=_pairs_of(fields, _FIELDS_OF["ease"]),
            )
            for item, fields in stored.items()
        }
        return ReadNeighbours(items)

    def popular(self, segment: str) -> Mapping[str, float]:
        segments = self._read("segments", [segment], ("items",))
        return {entry["item_id"]: entry["score"] for entry in segments[segment]["items"]} if segments else {}

    def _read(self, kind: IndexKind, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        return self._sender.documents(self._release.indices[kind], ids, fields)

    def prefetch(self, request: Request) -> None:
        """Search in a thread, or at once where requests are recorded in order; a server that fuses needs no help."""
        if (self._can_fuse and self._release.shards == 1) or not request.retrievers:
            return
        self._early_bodies = self._bodies(request)
        search = partial(self._sender.within(_RETRIEVAL).hits, self._release.indices["items"], self._early_bodies)
        if self._sender.sent is None:
            self._early_hits = start_in_thread(search)
            return
        self._early_hits = call_now(search)
        self._sender.sent[-1] = replace(self._sender.sent[-1], together=True)

    def retrieve(self, request: Request) -> OpenSearchRetrieved:
        """Return the candidates of every retriever; what was not prefetched is searched in one request.

        Where a retriever is not answered in time, the others answer. A request with vectors that is not answered at all
        is sent once more without them: their search is what takes long, and words are found without it.
        """
        index, bodies = self._release.indices["items"], self._bodies(request)
        late = [body for body in bodies if body not in self._early_bodies]
        searches: list[tuple[list[bytes], Callable[[], list[Searched | None]]]] = [
            (late, partial(self._sender.within(_RETRIEVAL).hits, index, late))
        ]
        if len(late) < len(bodies):
            searches.append((self._early_bodies, self._early_hits.result))
        hits: dict[bytes, Searched] = {}
        failure = None

        def answer(asked: Sequence[bytes], search: Callable[[], list[Searched | None]]) -> None:
            nonlocal failure
            try:
                found = zip(asked, search(), strict=True)
                hits.update((body, of_body) for body, of_body in found if of_body is not None)
            except UnavailableError as error:
                failure = error

        for asked, search in searches:
            answer(asked, search)
        pairs = list(zip(request.retrievers, bodies, strict=True))
        missing = [(retriever, body) for retriever, body in pairs if body not in hits]
        without = [body for retriever, body in missing if retriever.vector is None]
        if failure is not None and without and len(without) < len(missing):
            answer(without, partial(self._sender.within(_LOOK_UP).hits, index, without))
        if failure is not None and not hits:
            raise failure
        found = [hits.get(body, Searched([], 0.0)) for body in bodies]
        failed = [retriever.name for retriever, body in pairs if body not in hits]
        return OpenSearchRetrieved(self._sender, index, self._release, request, found, failed)

    @property
    def failed(self) -> Sequence[str]:
        return self._failed

    def in_memory(self, request: Request) -> Retrieved:
        self._check_fields(request)
        return self._popular.retrieve(request)

    def _bodies(self, request: Request) -> list[bytes]:
        """Return the search of each retriever; equal bodies are the same search."""
        within, release = self._allowed(request), self._release
        return [
            serialise_search(
                retriever_body(each, within, request.depth, release.ef_search),
                counted_together=release.shards > 1 and bool(each.words),
            )
            for each in request.retrievers
        ]

    def _check_fields(self, request: Request) -> None:
        for condition in request.conditions:
            if field_name(condition.field) not in self._release.fields:
                check_field(condition.field, self.fields)

    def _allowed(self, request: Request) -> Body:
        self._check_fields(request)
        return allowed(request, self._release.indices["profiles"])

    def rank(self, plan: Plan) -> Ranked | None:
        """Return the hits of the server's own fusion, where the server can fuse and the plan needs no more.

        Where its fusion fails, the plan is answered by ours, and where there are several shards: a hybrid query scores
        words by their frequencies in each shard alone.
        """
        if not self._can_fuse or not native.can_answer(plan) or self._release.shards > 1:
            return None
        index = self._release.indices["items"]
        within = self._allowed(plan.request)
        body = native.hybrid_body(plan.request, within, plan.weights, self._release.ef_search)
        try:
            fused = self._sender.within(_LOOK_UP, repeats=False).fused(index, body)
        except UnavailableError as error:
            logger.info("the server's own fusion fails, so its hits are fused here: %s", error)
            return None
        hits = native.best(fused, plan.query.k)
        records = read_records(self._sender, index, [item for _, item in hits])
        return native.to_ranked(hits, records, len(plan.retrievers))


def _pairs_of(fields: Mapping[str, Sequence[Any]], names: Sequence[str]) -> dict[str, float]:
    items, values = (fields.get(name, ()) for name in names)
    return dict(zip(items, values, strict=False))  # a hand-written document may have lists of different lengths
