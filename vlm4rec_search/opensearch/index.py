"""A release on a server as a search index: it looks up and finds candidates, everything else is the shared search."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self

from opensearchpy import exceptions

from vlm4rec_search.errors import UsageError
from vlm4rec_search.indexes.base import Index, Request
from vlm4rec_search.indexes.meta import ReleaseMeta, check_readable
from vlm4rec_search.indexes.rows import item_of, user_of
from vlm4rec_search.indexes.sent import Sent
from vlm4rec_search.opensearch import native
from vlm4rec_search.opensearch.catalogue import Catalogue
from vlm4rec_search.opensearch.found import SHOWN, OpenSearchFound, field_of, record
from vlm4rec_search.opensearch.mapping import KINDS, Kind, field_name, read_meta
from vlm4rec_search.opensearch.refusals import server_errors
from vlm4rec_search.opensearch.requests import allowed, leg_body
from vlm4rec_search.opensearch.sender import ItemGoneError, ReleaseGoneError, Sender
from vlm4rec_search.queries.filters import unknown_field
from vlm4rec_search.queries.legs import Item, User
from vlm4rec_search.queries.plan import Plan
from vlm4rec_search.queries.query import Answer, Query
from vlm4rec_search.queries.reranking import Ranked
from vlm4rec_search.queries.rules import Rule
from vlm4rec_search.ranking import Ranking

EF_SEARCH = 200  # where verification has not said otherwise
_LISTS = ("terms", "history", "interests", "behaviour", "seen", "categories")
_USER = ("vector", "segment", *_LISTS)
_STRANGER = {"segment": None} | dict.fromkeys(_LISTS, ())  # a profile written by hand may have less than ours


@dataclass(frozen=True)
class _Release:
    """What a search needs of a release: names of indices, fields that filters may name, `ef_search`."""

    meta: ReleaseMeta
    indices: Mapping[Kind, str]
    fields: frozenset[str]
    ef_search: int


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
        self._sender, self._latest = Sender(catalogue.client), self
        with server_errors():
            self._release = _open(catalogue, release or _live(catalogue))
            self._fuses = native.is_there(self._sender)
        super().__init__(self._release.meta, encoder, ranking, rules)

    def search(self, query: Query) -> Answer:
        """Answer a query; when the release was deleted since it was opened, by the one that answers now."""
        try:
            try:
                return Index.search(self._latest, query)
            except ItemGoneError:  # somebody deletes by hand
                return Index.search(self._latest, query)
        except ReleaseGoneError:
            if not self._follows:
                raise
            fresh = OpenSearchIndex(self._catalogue, None, self._encoder_asked, self.ranking, self.rules)
            self._latest, self._release, self.meta = fresh, fresh._release, fresh.meta
            return Index.search(fresh, query)

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

    def items(self, item_ids: Sequence[str], *, words: bool = False, vectors: bool = True) -> dict[str, Item]:
        """Return the items that the release has."""
        fields = (*SHOWN, "neighbours", *(("words",) if words else ()), *(("vector",) if vectors else ()))
        return {
            item: item_of(
                record(item, source),
                source.get("vector", ()),
                source.get("words", ()),
                _neighbours(source.get("neighbours", {})),
            )
            for item, source in self._read("items", item_ids, fields).items()
        }

    def segment(self, name: str) -> Mapping[str, float]:
        """Return the most popular items of a segment."""
        found = self._read("segments", [name], ("items",))
        return {part["item_id"]: part["score"] for part in found[name]["items"]} if found else {}

    def _read(self, kind: Kind, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        return self._sender.documents(self._release.indices[kind], ids, fields)

    def find(self, request: Request) -> OpenSearchFound:
        """Return the candidates of every leg, asked for in one request."""
        self._check_fields(request)
        release = self._release
        within = allowed(request, release.indices["profiles"])
        bodies = [leg_body(leg, within, request.depth, release.ef_search) for leg in request.legs]
        hits = self._sender.hits(release.indices["items"], bodies)
        return OpenSearchFound(self._sender, release.indices["items"], request.legs, hits)

    def fused(self, request: Request, plan: Plan, query: Query) -> Ranked | None:
        """Return the hits of a server that fuses by itself, where the query needs nothing that only we do."""
        if not self._fuses or not native.is_enough(query, self.ranking, self.rules, plan):
            return None
        self._check_fields(request)
        release = self._release
        within = allowed(request, release.indices["profiles"])
        body = native.hybrid_body(request, within, plan.weights, query.k, release.ef_search)
        return native.ranked(self._sender.search(release.indices["items"], body), len(plan.legs))

    def _check_fields(self, request: Request) -> None:
        for condition in request.conditions:
            if field_name(condition.field) not in self._release.fields:
                unknown_field(condition, [field_of(name) for name in self._release.fields])

    def close(self) -> None:
        """Close the connections, unless they are those of somebody who named the release."""
        if self._follows:
            self._catalogue.client.close()


def _neighbours(source: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    return dict(zip(source.get("item_id", ()), source.get("similarity", ()), strict=True))


def _live(catalogue: Catalogue) -> str:
    name = catalogue.live()
    if name is None:
        where = catalogue.client.transport.get_connection().host
        raise UsageError(f"nothing is published in {where} as {catalogue.aliases['items']}: run `vlm4rec index` first")
    return name


def live_ef_search(catalogue: Catalogue) -> int:
    """Return what verification has found to be enough for the release that answers, `EF_SEARCH` where none does.

    Raises:
        UsageError: the aliases do not point to one release, or it does not say what made it.
    """
    name = catalogue.live()
    return _open(catalogue, name).ef_search if name else EF_SEARCH


def _open(catalogue: Catalogue, name: str) -> _Release:
    index = catalogue.index("items", name)
    try:
        mapping = catalogue.client.indices.get_mapping(index=index)[index]["mappings"]
        told = mapping["_meta"]
        check_readable(name, told["schema_version"], told["analyzer"])
        meta = read_meta(told)
    except exceptions.NotFoundError:
        raise UsageError(f"there is no release {name}: `vlm4rec releases list` shows those that are") from None
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{index} does not say what made it: publish again with `vlm4rec index`") from None
    fields = frozenset(mapping["properties"]["facets"].get("properties", ()))
    indices = {kind: catalogue.index(kind, name) for kind in KINDS}
    return _Release(meta, indices, fields, int(told.get("ef_search", EF_SEARCH)))
