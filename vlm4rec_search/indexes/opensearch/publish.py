"""Publishes a release to a server: new indices, loaded and verified, before the aliases name them in one request."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
from opensearchpy import exceptions

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.opensearch.aliases import Catalogue
from vlm4rec_search.indexes.opensearch.bulk import Operation, Rejection
from vlm4rec_search.indexes.opensearch.connection import server_errors
from vlm4rec_search.indexes.opensearch.documents import (
    check_compatible,
    check_losses,
    count_changes,
    find_updates,
    prepare_documents,
    read_bodies,
    read_hashes,
)
from vlm4rec_search.indexes.opensearch.lease import check_unchanged, lease, prune, switch, switching
from vlm4rec_search.indexes.opensearch.loader import load, loading
from vlm4rec_search.indexes.opensearch.mapping import ID_COLUMNS, KINDS, Kind, Vectors, index_body, meta_body
from vlm4rec_search.indexes.opensearch.verify import verify_documents, verify_recall, verify_searches, wait_for_copies
from vlm4rec_search.indexes.release import Load, Publication, ReleaseMeta, ReleaseSummary, attach_refused_rows
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.indexes.staging import STEPS, count_rows, duckdb_errors, stage_release

# Makes the indices of a release and fills them: anew, or from a copy of the release that answers.

_NAMES: dict[Kind, str] = {"items": "document", "profiles": "user", "segments": "segment"}  # in the table `rejected`
_BLOCK = "index.blocks.write"
COPYING = 300.0  # seconds for a copy of an index on the server: where it cannot link files, it copies them
_REFUSE = """
INSERT INTO rejected SELECT $kind, refused.id, {title}, refused.reason
FROM refused LEFT JOIN outgoing_{kind} AS outgoing ON outgoing.{id} = refused.id;
DELETE FROM outgoing_{kind} WHERE {id} IN (SELECT id FROM refused)
"""


class Filling:
    """The indices of one release that is being built."""

    def __init__(
        self,
        catalogue: Catalogue,
        connection: duckdb.DuckDBPyConnection,
        meta: ReleaseMeta,
        facets: Sequence[str],
        base: str | None,
        vectors: Vectors,
    ) -> None:
        """Fill with the tables of `prepare_documents`, from the release `base` or, where it is None, from nothing.

        A copy keeps its vectors as the release does of which it is made.
        """
        self._catalogue, self._connection, self._meta = catalogue, connection, meta
        self._facets, self._base, self._vectors = facets, base, vectors

    def fill(self, kind: Kind) -> Load:
        """Make and load one index; what the server rejects goes to the table `rejected` and leaves the outgoing ones.

        Raises:
            RunError: the server does not take the documents.
        """
        client, index = self._catalogue.client, self._catalogue.index(kind, self._meta.name)
        self._copy(kind, index) if self._base else self._create(kind, index)
        rejected: list[Rejection] = []
        with loading(client, index):
            operations, total = self._operations(kind)
            loaded = load(client, index, operations, total, rejected.append)
            if rejected and self._base:  # the document that they would have replaced is no more to be found
                load(client, index, ((one.id, None) for one in rejected), len(rejected), _never)
        self._refuse(kind, rejected)
        return Load(index, **vars(loaded))

    def _operations(self, kind: Kind) -> tuple[Iterator[Operation], int]:
        if self._base:
            return find_updates(self._connection, kind, f"live_{kind}")
        return read_bodies(self._connection, kind), len(self._connection.table(f"outgoing_{kind}"))

    def _create(self, kind: Kind, index: str) -> None:
        body = index_body(kind, self._meta, self._facets, self._vectors)
        self._catalogue.client.indices.create(index=index, body=body)

    def _copy(self, kind: Kind, index: str) -> None:
        """Let the server copy the index (it links the files), and teach the copy what is new."""
        client, source = self._catalogue.client, self._catalogue.index(kind, self._base or "")
        body = index_body(kind, self._meta, self._facets)
        with _closed_for_writing(self._catalogue, source):
            client.indices.clone(index=source, target=index, body={"settings": {_BLOCK: None}}, request_timeout=COPYING)
        limits = {"mapping.total_fields.limit": body["settings"]["index"]["mapping.total_fields.limit"]}
        client.indices.put_settings(index=index, body={"index": limits})
        told, properties = body["mappings"]["_meta"], body["mappings"]["properties"]
        properties.pop("vector", None)
        client.indices.put_mapping(index=index, body={"_meta": told, "properties": properties})
        started = {"wait_for_status": "yellow", "timeout": f"{COPYING:.0f}s"}
        client.cluster.health(index=index, params=started, request_timeout=COPYING + 30)

    def _refuse(self, kind: Kind, rejected: Sequence[Rejection]) -> None:
        if not rejected:
            return
        told = {"id": [one.id for one in rejected], "reason": [one.reason for one in rejected]}
        self._connection.register("refused", pa.table(told))
        title = "outgoing.title" if kind == "items" else "NULL"
        insert, delete = _REFUSE.format(kind=kind, id=ID_COLUMNS[kind], title=title).split(";")
        self._connection.execute(insert, {"kind": _NAMES[kind]})
        self._connection.execute(delete)
        self._connection.unregister("refused")


@contextmanager
def _closed_for_writing(catalogue: Catalogue, index: str) -> Iterator[None]:
    """Close an index for writing, which a copy needs; searches go on."""
    catalogue.client.indices.put_settings(index=index, body={_BLOCK: True})
    try:
        yield
    finally:
        catalogue.client.indices.put_settings(index=index, body={_BLOCK: None})


def _never(rejection: Rejection) -> None:
    raise RunError(f"the server does not delete {rejection.id}: {rejection.reason}")


_REFUSED = "SELECT kind, id, title, reason FROM rejected"


def publish_release(
    catalogue: Catalogue,
    given: SearchTables[Frame],
    meta: ReleaseMeta,
    incremental: bool = False,
    force: bool = False,
    vectors: Vectors = "float32",
) -> Publication:
    """Build, verify and publish a release; until it is verified, and if anything fails, the last one answers.

    An incremental release starts as a copy of the one that answers, made by the server, to which only what changed is
    sent; where nothing is published yet it is a whole one.

    Args:
        catalogue: where.
        given: the search layer.
        meta: from `new_release`; its encoder and dimension are what documents have to have.
        incremental: send what changed only.
        force: publish though many documents of the release that answers are no longer there, and though somebody
            lets another one answer meanwhile.
        vectors: how a whole release keeps them.

    Raises:
        UsageError: a column is missing, an alias is an index, or the release that answers is of another make than an
            incremental one.
        RunError: nothing is left to publish, somebody else is publishing, too much would be deleted, verification
            fails, somebody let another release answer meanwhile, or the server does not answer or refuses. It keeps
            what was refused, see `refused_rows`.
    """
    started = time.perf_counter()
    with _told(), lease(catalogue.client, catalogue.prefix) as held, _scratch() as connection:
        live = catalogue.live()
        _check_engine(catalogue, vectors)
        catalogue.sweep()
        before = catalogue.whole().get(live) if live else None
        with bar("staging the tables", STEPS + 1) as advance:
            meta = stage_release(connection, given, meta, advance)
            facets = prepare_documents(connection)
            advance(1)
        _read_live(catalogue, connection, live)
        base = _base(before, meta) if incremental and before else None
        _check_losses(connection, force)
        with _building(catalogue, meta.name):
            filling = Filling(catalogue, connection, meta, facets, base, vectors)
            loads = tuple(filling.fill(kind) for kind in KINDS)
            _check_losses(connection, force)  # again, now that the server has refused what it does not take
            meta = _verified(catalogue, connection, meta)
            held.renew()
        _switch(catalogue, live, meta.name, force)
        summary = _summary(connection, meta, before)
        refused = connection.execute(_REFUSED).to_arrow_table()
    return Publication(meta, replace(summary, seconds=round(time.perf_counter() - started, 2)), loads, refused)


@contextmanager
def _told() -> Iterator[None]:
    """Turn the errors of DuckDB and of the server into one line."""
    with duckdb_errors(), server_errors():
        yield


@contextmanager
def _scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a temporary file: the tables of a large catalogue need not fit into memory.

    When the block fails, its error keeps what was refused until then.
    """
    with (
        TemporaryDirectory(prefix="vlm4rec-") as folder,
        duckdb.connect(str(Path(folder) / "staged.duckdb")) as connection,
    ):
        try:
            with _told():
                yield connection
        except Vlm4recError as error:
            with suppress(duckdb.Error):  # nothing was staged yet
                attach_refused_rows(error, connection.execute(_REFUSED).to_arrow_table())
            raise


def _check_engine(catalogue: Catalogue, vectors: Vectors) -> None:
    """Refuse faiss where only the jars of the plug-in are, without its native libraries: a write would hang for ever.

    Raises:
        UsageError: it is not there.
    """
    if vectors != "faiss":
        return
    plugins = {row["component"] for row in catalogue.client.cat.plugins(params={"format": "json"})}
    if "opensearch-knn" not in plugins:
        raise UsageError("this server has no faiss: leave VLM4REC_INDEX_VECTORS at float32 or on_disk")


def _read_live(catalogue: Catalogue, connection: duckdb.DuckDBPyConnection, live: str | None) -> None:
    """Fill the tables `live_<kind>` with the hashes of what answers."""
    for kind in KINDS:
        index = catalogue.index(kind, live) if live else None
        read_hashes(catalogue.client, index, connection, f"live_{kind}")


def _base(live: ReleaseMeta, meta: ReleaseMeta) -> str:
    """Check that what answers can be changed into the new release, and return its name."""
    check_compatible(live, meta)
    return live.name


def _check_losses(connection: duckdb.DuckDBPyConnection, force: bool) -> None:
    for kind in () if force else KINDS:
        check_losses(connection, kind, f"live_{kind}")


@contextmanager
def _building(catalogue: Catalogue, release: str) -> Iterator[None]:
    """Delete the indices when the block fails, unless somebody has let them answer already."""
    try:
        yield
    except BaseException:
        with suppress(Vlm4recError, exceptions.TransportError):  # the next publication sweeps them
            if catalogue.live() != release:
                catalogue.delete(release)
        raise


def _switch(catalogue: Catalogue, before: str | None, release: str, force: bool) -> None:
    """Let the release answer, unless somebody has switched since the publication began, and remove old ones."""
    with switching(catalogue) as turn:
        if not force:
            check_unchanged(catalogue, before, release)
        switch(catalogue, release, turn)
        prune(catalogue, {release, *([before] if before else [])})


def _verified(catalogue: Catalogue, connection: duckdb.DuckDBPyConnection, meta: ReleaseMeta) -> ReleaseMeta:
    """Verify the indices, let them say that they are whole, and return the metadata with the counts."""
    client, items = catalogue.client, catalogue.index("items", meta.name)
    with bar(f"verifying {meta.name}", len(KINDS) + 2) as advance:
        counts: dict[Kind, int] = {}
        for kind in KINDS:
            counts[kind] = verify_documents(client, connection, kind, catalogue.index(kind, meta.name))
            advance(1)
        ef_search = verify_recall(client, connection, items)
        advance(1)
        verify_searches(catalogue, connection, meta.name)
        advance(1)
    wait_for_copies(client, [catalogue.index(kind, meta.name) for kind in KINDS])
    meta = replace(meta, documents=counts["items"], users=counts["profiles"])
    for kind in reversed(KINDS):
        told = {**meta_body(meta, whole=True), "ef_search": ef_search}
        client.indices.put_mapping(index=catalogue.index(kind, meta.name), body={"_meta": told})
    return meta


def _summary(connection: duckdb.DuckDBPyConnection, meta: ReleaseMeta, before: ReleaseMeta | None) -> ReleaseSummary:
    rejected = dict(connection.execute("SELECT kind, count(*) FROM rejected GROUP BY kind").fetchall())
    added, changed, deleted = count_changes(connection)
    return ReleaseSummary(
        meta.name,
        meta.documents,
        added,
        changed,
        deleted,
        users=count_rows(connection, "outgoing_profiles"),
        users_before=before.users if before else 0,
        rejected=rejected.get("document", 0),
        rejected_users=rejected.get("user", 0),
    )
