"""The releases on a server, behind the interface that all backends share."""

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from opensearchpy import OpenSearch, helpers

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.aliases import (
    ReleaseCatalogue,
    activate_release,
    activating,
    delete_old,
)
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.connection import UnreachableError, server_errors
from vlm4rec_search.indexes.opensearch.disk import DISK_FULL
from vlm4rec_search.indexes.opensearch.documents import scan_hashes
from vlm4rec_search.indexes.opensearch.lease import lease
from vlm4rec_search.indexes.opensearch.limits import LIMITS, Limits
from vlm4rec_search.indexes.opensearch.mapping import DEFAULT, IndexKind
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.indexes.opensearch.shoppers import delete_profiles, merge_profiles
from vlm4rec_search.indexes.opensearch.storage import Storage
from vlm4rec_search.indexes.release import ForgetError, ListedRelease, Publication
from vlm4rec_search.indexes.releases import BEHAVIOUR, COLUMNS, Hashed, ReadForgotten, Releases
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.backend import AccessError
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

_PAGE = 500
_MOST_HITS = 10_000  # of one request
_NEIGHBOURS = pa.list_(pa.struct([("item_id", pa.string()), ("similarity", pa.float64())]))
_TYPES = {
    "price": pa.float64(),
    "available": pa.bool_(),
    "vector": pa.list_(pa.float32()),
    "popularity": pa.float32(),
    "neighbours": _NEIGHBOURS,
}
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in (*COLUMNS, *BEHAVIOUR)])


class OpenSearchReleases(Releases):
    """Releases behind the aliases of a prefix."""

    def __init__(
        self,
        client: OpenSearch,
        prefix: str,
        url: str,
        storage: Storage = DEFAULT,
        limits: Limits = LIMITS,
        weights_source: str = maven.CENTRAL,
        place: Path | None = None,
    ) -> None:
        """Use a client of `connect`.

        Args:
            client: the client.
            prefix: of the aliases.
            url: for messages and records.
            storage: shards, copies and vectors of new releases.
            limits: how long the searches of an open release wait for the server.
            weights_source: of the encoder of these searches, see `Searcher`.
            place: where publications stage their tables; None takes the temporary folder (TMPDIR).
        """
        self.catalogue, self.url, self._storage = ReleaseCatalogue(client, prefix), url, storage
        self._limits, self._weights_source, self._place = limits, weights_source, place

    def publish(
        self,
        given: SearchTables[Frame],
        meta: ReleaseMeta,
        incremental: bool,
        force: bool,
        forgotten: ReadForgotten = frozenset,
        kept: Collection[str] = (),
    ) -> Publication:
        return publish_release(
            self.catalogue, given, meta, incremental, force, self._storage, forgotten, kept, self._place
        )

    def live(self) -> str | None:
        with server_errors():
            return self.catalogue.live()

    def list(self) -> Mapping[str, ListedRelease]:
        """Return every verified release that has all its indices, the oldest first."""
        with server_errors():
            return self.catalogue.list()

    def activate(self, name: str) -> None:
        """Let all aliases name a release, in one request, after counting its documents.

        A running publication is not waited for; it notices the activation and does not replace the release.
        """
        with server_errors(), activating(self.catalogue) as held:
            meta = self.meta(name)
            expected: dict[IndexKind, int] = {"items": meta.documents, "profiles": meta.users}
            for kind, count in expected.items():
                index = self.catalogue.index(kind, name)
                actual = self.catalogue.client.count(index=index)["count"]
                if actual < count:
                    raise RunError(f"{name} is incomplete: {index} holds {actual:,} of {count:,} documents")
                # a `forget` that broke off leaves more profiles than it has noted
                if actual > count and kind == "items":
                    raise RunError(f"{name} was changed: {index} holds {actual:,} documents and was made of {count:,}")
            activate_release(self.catalogue, name, held)

    def prune(self, retained: int, kept: Collection[str] = ()) -> Sequence[str]:
        """Delete the indices of old releases and of killed publications."""
        with server_errors(), lease(self.catalogue.client, self.catalogue.prefix):
            self.catalogue.delete_unfinished()
            with activating(self.catalogue):
                live = self.live_or_lost()
                needed = {live, *self.older(live)[-1:]} if live else set()
                return delete_old(self.catalogue, {*needed, *kept}, retained)

    def open(
        self,
        name: str,
        ranking: Ranking | None = None,
        rules: Sequence[Rule] = (),
        shared: bool = False,
        encoder: str | None = None,
    ) -> Searcher:
        backend = OpenSearchBackend(self.catalogue, name, self._limits)
        return Searcher(backend, encoder, ranking, rules, self._weights_source)

    def documents(self, name: str, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
        query = {"_source": [*columns], "query": {"match_all": {}}}
        index, client = self.catalogue.index("items", name), self.catalogue.client
        schema = pa.schema([_SCHEMA.field(column) for column in columns])
        with server_errors():
            hits = helpers.scan(client, query, index=index, size=_PAGE, request_timeout=120)
            while page := [_row(hit) for hit in islice(hits, _PAGE)]:
                yield pa.RecordBatch.from_pylist(page, schema)

    def hashes(self, name: str, kind: Hashed) -> Iterator[pa.RecordBatch]:
        with server_errors():
            for page in scan_hashes(self.catalogue.client, self.catalogue.index(kind, name)):
                yield page.select(["id", "body_hash"])

    def users(self, name: str, count: int) -> Sequence[str]:
        """Return the first users in a random order with a fixed seed."""
        score = {"function_score": {"random_score": {"seed": 1, "field": "user_id"}}}
        body = {"size": min(count, _MOST_HITS), "_source": False, "query": score}
        with server_errors():
            answer = self.catalogue.client.search(index=self.catalogue.index("profiles", name), body=body)
        return [hit["_id"] for hit in answer["hits"]["hits"]]

    def forget(self, users: Container[str], dry_run: bool = False) -> Mapping[str, int]:
        """Delete the documents as `delete_profiles` does, and merge, so that no segment has them.

        Releases that lost another index are cleaned too. What killed publications have left, which may have the
        documents, is removed. A merge that is missing is made up for.

        Raises:
            ForgetError: as for every backend; also where the alias of profiles names an index of another application
                that has such documents.
            RunError: as for every backend.
        """
        found: dict[str, int] = {}
        problems: dict[str, str] = {}
        client = self.catalogue.client
        with server_errors(), nullcontext() if dry_run else lease(client, self.catalogue.prefix):
            if not dry_run:
                self.catalogue.delete_unfinished()
            indices = self.catalogue.profiles()
            for index, name in indices.items():
                try:
                    with server_errors():
                        count = self._forget_in(index, name, users, dry_run)
                except UnreachableError:  # as the next index will be
                    raise
                except (RunError, AccessError) as error:
                    is_ours = name and isinstance(error, RunError)
                    cure = f"{index} could not be cleaned: {error}; {_cure(index, error)}"
                    problems[name or index] = cure if is_ours else str(error)
                    continue
                if count:
                    found[name or index] = count
            files = None
            if not dry_run:
                cleaned = [index for index, name in indices.items() if name and name not in problems]
                try:
                    with server_errors():
                        merge_profiles(client, cleaned)
                except (RunError, AccessError) as error:
                    files = str(error)
        if problems or files:
            raise ForgetError(found, problems, files)
        return found

    def _forget_in(self, index: str, name: str, users: Container[str], dry_run: bool) -> int:
        """Delete the documents from the profiles of the release `name`, "" for an index of another application."""
        client = self.catalogue.client
        if not dry_run:  # a count and a scan see what an earlier call has deleted only then
            client.indices.refresh(index=index)
        ids = [id_ for batch in scan_hashes(client, index) for id_ in batch["id"].to_pylist() if id_ in users]
        if ids and not dry_run and not name:
            raise RunError(
                f"{index}, which {self.catalogue.aliases['profiles']} names, has such shoppers and is no index of"
                " a release: delete them there, or set VLM4REC_INDEX_PREFIX"
            )
        if ids and not dry_run:
            delete_profiles(self.catalogue, name, ids)
        return len(ids)

    def close(self) -> None:
        self.catalogue.client.close()


def _cure(index: str, error: Exception) -> str:
    """Return what to do about an index of profiles that cannot be changed."""
    if DISK_FULL in str(error):
        return "make room (`vlm4rec releases prune --keep 1`) and run the command again"
    if "cluster_block_exception" in str(error):
        return "remove the block and run the command again"
    mend = f"open it with POST /{index}/_open or mend it"
    return f"{mend}; if its release is not live, you can delete it with DELETE /{index} instead"


def _row(hit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the source of a hit as a row; in a document that was edited by hand, values may have any type."""
    source: Mapping[str, Any] = hit["_source"]
    texts = {name: str(value) for name, value in source.items() if name not in _TYPES and value is not None}
    numbers = {name: _number(source.get(name)) for name in ("price", "popularity")}
    lists = {"vector": source.get("vector"), "neighbours": _pairs(source.get("neighbours"))}
    available = source.get("available") if isinstance(source.get("available"), bool) else None
    return {"available": available, **numbers, **lists, **texts, "item_id": hit["_id"]}


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _pairs(neighbours: object) -> list[dict[str, Any]]:
    """Return the neighbours with their similarities; none unless they are the two lists that we write."""
    lists = [neighbours.get(name) for name in ("item_id", "similarity")] if isinstance(neighbours, Mapping) else []
    if not lists or not all(isinstance(values, list) for values in lists):
        return []
    return [{"item_id": str(item), "similarity": _number(near)} for item, near in zip(*lists, strict=False)]
