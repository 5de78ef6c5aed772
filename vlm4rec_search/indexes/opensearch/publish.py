"""Publishes a release on a server: build new indices, verify them, then let the aliases name them in one request.

A full release fills new indices. An incremental release lets the server copy the indices of the live release, which
links their files, and sends only documents that changed.
"""

import logging
import time
from collections.abc import Collection, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.common.paths import working_folder
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.opensearch.aliases import (
    ReleaseCatalogue,
    activate_release,
    activating,
    check_unchanged,
    delete_old,
)
from vlm4rec_search.indexes.opensearch.bulk import Rejection
from vlm4rec_search.indexes.opensearch.connection import server_errors, server_version
from vlm4rec_search.indexes.opensearch.documents import (
    check_compatible,
    check_losses,
    find_updates,
    prepare_documents,
    read_bodies,
    read_hashes,
)
from vlm4rec_search.indexes.opensearch.lease import lease
from vlm4rec_search.indexes.opensearch.loader import load, loading
from vlm4rec_search.indexes.opensearch.mapping import (
    DEFAULT,
    ID_COLUMNS,
    INDEX_KINDS,
    VECTORS,
    IndexKind,
    field_name,
    index_body,
    loading_alias,
    vector_fields,
)
from vlm4rec_search.indexes.opensearch.segments import has_deleted, merge_deleted
from vlm4rec_search.indexes.opensearch.shoppers import WRITE_BLOCK, delete_profiles, merge_profiles
from vlm4rec_search.indexes.opensearch.storage import Storage
from vlm4rec_search.indexes.opensearch.verify import verify_documents, verify_recall, verify_searches, wait_for_copies
from vlm4rec_search.indexes.release import Load, Publication, PublicationError, ReleaseSummary
from vlm4rec_search.indexes.releases import RETAINED, ReadForgotten
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.indexes.staging import STEPS, count_changes, count_rows, duckdb_errors, leave_out, stage_release
from vlm4rec_search.search.backend import AccessError
from vlm4rec_search.search.release import ReleaseMeta

logger = logging.getLogger(__name__)

_MEMORY = "2GB"  # of DuckDB; what does not fit goes to a folder beside the temporary file
_EXPUNGING = 300.0  # seconds
_FEW = 100  # facets without an item that a copy may keep in any case
COPYING = 300.0  # seconds; a server that cannot link files copies them
_REJECTED_KINDS: dict[IndexKind, str] = {"items": "document", "profiles": "user", "segments": "segment"}
_MOVE_REFUSED = """
INSERT INTO rejected SELECT $kind, refused.id, {title}, refused.reason
FROM refused LEFT JOIN outgoing_{kind} AS outgoing ON outgoing.{id} = refused.id;
DELETE FROM outgoing_{kind} WHERE {id} IN (SELECT id FROM refused)
"""


def publish_release(
    catalogue: ReleaseCatalogue,
    given: SearchTables[Frame],
    meta: ReleaseMeta,
    incremental: bool = False,
    force: bool = False,
    storage: Storage = DEFAULT,
    forgotten: ReadForgotten = frozenset,
    kept: Collection[str] = (),
    place: Path | None = None,
) -> Publication:
    """Build, verify and activate a release. The previous release answers until then, and keeps answering on failure.

    Where nothing is published yet, an incremental release is built as a full one. So it is where the aliases name no
    whole release; they are replaced. And so it is where more than 100 attributes of the live release are gone, and more
    than the new one has.

    Args:
        catalogue: of the server's releases.
        given: the search layer.
        meta: from `new_release`; the documents need its encoder and dimension.
        incremental: copy the live release and send only documents that changed.
        force: publish although many items or profiles of the live release would be deleted, or another process
            activated another release meanwhile.
        storage: shards, copies and vectors of a full release; a copy has those of its base.
        forgotten, kept: see `Releases.publish`.
        place: where the tables are staged, see `working_folder`.

    Raises:
        UsageError: a column is missing, an alias is an index, or the live release cannot be the base of this one.
        RunError: nothing is left to publish, another publication is running, an alias names an index of another
            application, too much would be deleted, verification fails, another release was activated meanwhile, or the
            server refuses or does not answer. If documents had been refused before, it is a PublicationError.
    """
    started = time.perf_counter()
    with (
        _publication_errors(),
        lease(catalogue.client, catalogue.prefix) as held,
        _staging_database(place) as connection,
    ):
        live, damage = catalogue.live_or_damage()
        if damage:
            logger.warning("nothing counts as live: %s", str(damage).partition(": ")[0])
        storage.check(lambda: server_version(catalogue.client))
        if storage.vectors == "faiss":
            _check_faiss(catalogue)
        catalogue.delete_unfinished()
        listed = catalogue.list().get(live) if live else None
        previous = listed.meta if listed else None
        with bar("staging the tables", STEPS) as advance:
            left_out = forgotten()
            meta = stage_release(connection, given, meta, advance, left_out)
        facets = prepare_documents(connection)
        for kind in INDEX_KINDS:
            read_hashes(catalogue.client, catalogue.index(kind, live) if live else None, connection, f"live_{kind}")
        base = previous if incremental else None
        if base:
            check_compatible(base, meta)
        gone = _count_gone(catalogue, base.name, facets) if base else 0
        if base and gone > max(len(facets), _FEW):
            logger.warning("%s has %d attributes that no item has any more: a whole release is built", base.name, gone)
            base = None
        if not force:
            check_losses(connection)
        with _deleted_on_failure(catalogue, meta.name):
            builder = IndexBuilder(catalogue, connection, meta, facets, base.name if base else None, storage, gone)
            loads = tuple(builder.build(kind) for kind in INDEX_KINDS)
            if not force:
                check_losses(connection)  # again, after the server has refused documents
            meta = _verify(catalogue, connection, meta, facets)
            held.renew()
            if (now := forgotten()) != left_out:
                meta = _leave_out(catalogue, connection, meta, now)
        with activating(catalogue) as activation:
            if not force:
                check_unchanged(catalogue, live, meta.name)
            activate_release(catalogue, meta.name, activation)
            _delete_old(catalogue, {meta.name, *kept, *([live] if live else [])})
        logger.debug("activated %s in place of %s", meta.name, live)
        summary = _summarize(connection, meta, previous)
        refused = connection.table("rejected").to_arrow_table()
    summary = replace(summary, seconds=round(time.perf_counter() - started, 2))
    return Publication(meta, summary, loads, refused, "incremental" if base else "full")


def _delete_old(catalogue: ReleaseCatalogue, needed: set[str]) -> None:
    """Delete old releases; a successful publication must not fail because of this."""
    try:
        with server_errors():
            delete_old(catalogue, needed, RETAINED)
    except Vlm4recError as error:
        logger.warning("old releases stay, `vlm4rec releases prune` removes them: %s", error)


class IndexBuilder:
    """Builds the indices of one release."""

    def __init__(
        self,
        catalogue: ReleaseCatalogue,
        connection: duckdb.DuckDBPyConnection,
        meta: ReleaseMeta,
        facets: Sequence[str],
        base: str | None,
        storage: Storage,
        gone: int,
    ) -> None:
        """Build from the tables of `prepare_documents`: changes of the release `base`, or everything if it is None.

        `gone` is the number of facets in the mapping of the base that the new release lacks.
        """
        self._catalogue, self._connection, self._meta = catalogue, connection, meta
        self._facets, self._base, self._storage, self._gone = facets, base, storage, gone

    def build(self, kind: IndexKind) -> Load:
        """Create and load one index. Rows that the server rejects move from the outgoing table to `rejected`.

        Raises:
            RunError: the server does not take the documents.
        """
        client, index = self._catalogue.client, self._catalogue.index(kind, self._meta.name)
        if self._base:
            self._copy(kind, self._base)
        else:
            body = index_body(kind, self._meta, self._facets, self._storage, self._count_nodes)
            client.indices.create(index=index, body=body)
        rejected: list[Rejection] = []
        with loading(client, index):
            loaded = self._load(kind, index, rejected)
            if rejected and self._base:  # the copy must not keep the old version of a rejected document
                load(client, index, ((rejection.id, None) for rejection in rejected), len(rejected), _raise)
            if kind == "items" and self._base:
                _expunge(client, index)
        if rejected:
            self._move_refused(kind, rejected)
        return loaded

    def _count_nodes(self) -> int:
        return int(self._catalogue.client.cluster.health()["number_of_data_nodes"])

    def _load(self, kind: IndexKind, index: str, rejected: list[Rejection]) -> Load:
        if self._base:
            operations, total = find_updates(self._connection, kind, f"live_{kind}")
        else:
            operations, total = read_bodies(self._connection, kind), count_rows(self._connection, f"outgoing_{kind}")
        return load(self._catalogue.client, index, operations, total, rejected.append)

    def _copy(self, kind: IndexKind, base: str) -> None:
        """Let the server copy an index of the base, and give the copy its own metadata and new fields."""
        client, index = self._catalogue.client, self._catalogue.index(kind, self._meta.name)
        source = self._catalogue.index(kind, base)
        body = index_body(kind, self._meta, self._facets)
        with _write_blocked(self._catalogue, source):
            copied = {
                "settings": {WRITE_BLOCK: None, "index.merge.policy.expunge_deletes_allowed": 0},
                "aliases": {loading_alias(index): {}},  # its `_meta` names the base: this says that it is unfinished
            }
            client.indices.clone(index=source, target=index, body=copied, request_timeout=COPYING)
        limit = "mapping.total_fields.limit"  # a copy keeps the fields of the base
        limits = {limit: body["settings"]["index"][limit] + 2 * self._gone}
        client.indices.put_settings(index=index, body={"index": limits})
        # vectors are stored as the base stores them
        properties = {name: field for name, field in body["mappings"]["properties"].items() if name not in VECTORS}
        mapping = {"_meta": body["mappings"]["_meta"], "properties": properties}
        client.indices.put_mapping(index=index, body=mapping)
        _wait_until_started(client, index)

    def _move_refused(self, kind: IndexKind, rejected: Sequence[Rejection]) -> None:
        columns = {name: [getattr(rejection, name) for rejection in rejected] for name in ("id", "reason")}
        self._connection.register("refused", pa.table(columns))
        title = "outgoing.title" if kind == "items" else "NULL"
        insert, delete = _MOVE_REFUSED.format(kind=kind, id=ID_COLUMNS[kind], title=title).split(";")
        self._connection.execute(insert, {"kind": _REJECTED_KINDS[kind]})
        self._connection.execute(delete)
        self._connection.unregister("refused")


@contextmanager
def _write_blocked(catalogue: ReleaseCatalogue, index: str) -> Iterator[None]:
    """Block writes to an index, which copying requires; searches are not affected."""
    catalogue.client.indices.put_settings(index=index, body={WRITE_BLOCK: True})
    try:
        yield
    finally:
        catalogue.client.indices.put_settings(index=index, body={WRITE_BLOCK: None})


def _count_gone(catalogue: ReleaseCatalogue, base: str, facets: Sequence[str]) -> int:
    """Return how many facets the mapping of a release has beside the given ones."""
    index = catalogue.index("items", base)
    properties = catalogue.client.indices.get_mapping(index=index)[index]["mappings"]["properties"]
    return len(properties["facets"].get("properties", {}).keys() - map(field_name, facets))


def _wait_until_started(client: OpenSearch, index: str) -> None:
    started = {"wait_for_status": "yellow", "timeout": f"{COPYING:.0f}s"}
    client.cluster.health(index=index, params=started, request_timeout=COPYING + 30)


def _expunge(client: OpenSearch, index: str) -> None:
    """Let the server write segments anew that have deleted or replaced items: BM25 counts their words until then."""
    try:
        client.indices.refresh(index=index, request_timeout=600)
        if has_deleted(client, index):
            _reopen(client, index)
        is_done = merge_deleted(client, index, _EXPUNGING, only_expunge_deletes="true")
    except AccessError:  # the role is older than this step
        is_done = False
    if not is_done:
        logger.warning("%s: words of deleted items count in scores until the server has merged its segments", index)


def _reopen(client: OpenSearch, index: str) -> None:
    """Close and open an index, which drops what the server keeps some 30 s for copies that fall behind."""
    try:
        client.indices.close(index=index)
    except (AccessError, exceptions.TransportError):  # it only takes longer then
        return
    client.indices.open(index=index)
    _wait_until_started(client, index)


def _raise(rejection: Rejection) -> None:
    raise RunError(f"the server does not delete {rejection.id}: {rejection.reason}")


@contextmanager
def _publication_errors() -> Iterator[None]:
    """Turn the errors of DuckDB and of the server into one line."""
    with duckdb_errors(), server_errors():
        yield


@contextmanager
def _staging_database(place: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a temporary file, since the tables of a large catalogue may not fit into memory.

    Raises:
        PublicationError: the block raised an error after documents had been refused.
    """
    with (
        working_folder(place) as folder,
        duckdb.connect(str(folder / "staged.duckdb"), config={"memory_limit": _MEMORY}) as connection,
    ):
        try:
            with _publication_errors():
                yield connection
        except Vlm4recError as error:
            with suppress(duckdb.Error):  # nothing was staged yet
                if refused := connection.table("rejected").to_arrow_table():
                    raise PublicationError(error, refused) from error
            raise


def _check_faiss(catalogue: ReleaseCatalogue) -> None:
    """Refuse a server with the jars of the k-NN plug-in but not its native libraries: a write would never end."""
    plugins = {row["component"] for row in catalogue.client.cat.plugins(params={"format": "json"})}
    if "opensearch-knn" not in plugins:
        raise UsageError("this server has no faiss: set VLM4REC_INDEX_VECTORS to float32 or on_disk")


@contextmanager
def _deleted_on_failure(catalogue: ReleaseCatalogue, release: str) -> Iterator[None]:
    """Delete the indices of a release when the block fails, unless another process has activated it already."""
    try:
        yield
    except BaseException:
        with suppress(Vlm4recError, exceptions.TransportError):  # the next publication deletes them
            if catalogue.live() != release:
                catalogue.delete(release)
        raise


def _verify(
    catalogue: ReleaseCatalogue, connection: duckdb.DuckDBPyConnection, meta: ReleaseMeta, facets: Sequence[str]
) -> ReleaseMeta:
    """Verify the indices, mark them as whole, and return the metadata with the counts."""
    client, items = catalogue.client, catalogue.index("items", meta.name)
    with bar(f"verifying {meta.name}", len(INDEX_KINDS) + 2) as advance:
        counts: dict[IndexKind, int] = {}
        for kind in INDEX_KINDS:
            counts[kind] = verify_documents(client, connection, kind, catalogue.index(kind, meta.name))
            advance(1)
        ef_search = verify_recall(client, connection, items, vector_fields(meta))
        advance(1)
        verify_searches(catalogue, connection, meta.name)
        advance(1)
    wait_for_copies(client, [catalogue.index(kind, meta.name) for kind in INDEX_KINDS])
    meta = replace(meta, documents=counts["items"], users=counts["profiles"])
    ((_, described),) = client.indices.get_settings(index=items, flat_settings=True).items()
    shards = int(described["settings"]["index.number_of_shards"])
    body = {**meta.to_json(), "whole": True, "ef_search": ef_search, "shards": shards}
    for kind in reversed(INDEX_KINDS):
        of_kind = {"facets": list(map(field_name, facets))} if kind == "items" else {}
        client.indices.put_mapping(index=catalogue.index(kind, meta.name), body={"_meta": body | of_kind})
    return meta


def _leave_out(
    catalogue: ReleaseCatalogue, connection: duckdb.DuckDBPyConnection, meta: ReleaseMeta, forgotten: Container[str]
) -> ReleaseMeta:
    """Remove shoppers from a release that is verified and not yet live, and return its metadata."""
    leave_out(connection, forgotten, "rejected", "id", "kind = 'user'")
    ids = leave_out(connection, forgotten, "outgoing_profiles", "user_id")
    if ids:
        delete_profiles(catalogue, meta.name, ids)
        try:
            merge_profiles(catalogue.client, [catalogue.index("profiles", meta.name)])
        except RunError as error:  # searches do not find them any more
            logger.warning("%s", error)
    return replace(meta, users=meta.users - len(ids))


def _summarize(
    connection: duckdb.DuckDBPyConnection, meta: ReleaseMeta, previous: ReleaseMeta | None
) -> ReleaseSummary:
    refused = dict(connection.execute("SELECT kind, count(*) FROM rejected GROUP BY kind").fetchall())
    live = "(SELECT id AS item_id, content_hash FROM live_items)"
    added, changed, deleted = count_changes(connection, live, "outgoing_items")
    return ReleaseSummary(
        release=meta.name,
        documents=meta.documents,
        added=added,
        changed=changed,
        deleted=deleted,
        users=count_rows(connection, "outgoing_profiles"),
        users_before=previous.users if previous else 0,
        rejected=refused.get("document", 0),
        rejected_users=refused.get("user", 0),
    )
