"""Publishes a release to a server: new indices, loaded and verified, before the aliases name them in one request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from opensearchpy import exceptions

from vlm4rec_search.errors import UsageError, Vlm4recError
from vlm4rec_search.indexes.meta import ReleaseMeta, ReleaseSummary
from vlm4rec_search.indexes.staging import STEPS, Frame, SearchTables, count, one_line, stage
from vlm4rec_search.opensearch.catalogue import Catalogue
from vlm4rec_search.opensearch.changes import check_losses, check_same_make, count_changes, read_hashes
from vlm4rec_search.opensearch.documents import prepare
from vlm4rec_search.opensearch.filling import Filling
from vlm4rec_search.opensearch.lease import lease
from vlm4rec_search.opensearch.mapping import KINDS, Kind, Vectors, meta_body
from vlm4rec_search.opensearch.refusals import server_errors
from vlm4rec_search.opensearch.verification import verify_documents, verify_recall, verify_searches
from vlm4rec_search.progress import bar
from vlm4rec_search.publications import Publication
from vlm4rec_search.releases import KEPT

COPYING = 60.0  # seconds for which copies of the indices are waited for


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
        force: delete however many documents are no longer there.
        vectors: how a whole release keeps them.

    Raises:
        UsageError: a column is missing, an alias is an index, or the release that answers is of another make than an
            incremental one.
        RunError: nothing is left to publish, somebody else is publishing, too much would be deleted, verification
            fails, or the server does not answer or refuses.
    """
    started = time.perf_counter()
    with one_line(), server_errors(), lease(catalogue.client, catalogue.prefix) as held, _scratch() as connection:
        live = catalogue.live()
        _check_engine(catalogue, vectors)
        catalogue.sweep()
        before = catalogue.whole().get(live) if live else None
        with bar("staging the tables", STEPS + 1) as advance:
            meta = stage(connection, given, meta, advance)
            facets = prepare(connection)
            advance(1)
        _read_live(catalogue, connection, before)
        base = _base(connection, before, meta, force) if incremental and before else None
        with _building(catalogue, meta.name):
            filling = Filling(catalogue, connection, meta, facets, base, vectors)
            loads = tuple(filling.fill(kind) for kind in KINDS)
            if base:
                _check_losses(connection, force)  # again, now that the server has refused what it does not take
            meta = _verified(catalogue, connection, meta)
            held.renew()
        catalogue.switch(meta.name)
        prune(catalogue, {meta.name, *([live] if live else [])})
        summary = _summary(connection, meta, before)
        refused = connection.execute("SELECT kind, id, title, reason FROM rejected").to_arrow_table()
    return Publication(meta, replace(summary, seconds=round(time.perf_counter() - started, 2)), loads, refused)


def prune(catalogue: Catalogue, needed: set[str], kept: int = KEPT) -> list[str]:
    """Delete all but the newest `kept` releases and those that are needed, and return their names.

    Whoever is searching one of them opens the index again.
    """
    removed = []
    with suppress(Vlm4recError, exceptions.TransportError):  # what ended well must not end badly over this
        for name in list(catalogue.whole())[:-kept]:
            if name not in needed:
                catalogue.delete(name)
                removed.append(name)
    return removed


@contextmanager
def _scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a temporary file: the tables of a large catalogue need not fit into memory."""
    with (
        TemporaryDirectory(prefix="vlm4rec-") as folder,
        duckdb.connect(str(Path(folder) / "staged.duckdb")) as connection,
    ):
        yield connection


def _check_engine(catalogue: Catalogue, vectors: Vectors) -> None:
    """Refuse faiss where only the jars of the plug-in are, without its native libraries: a write would hang for ever.

    Raises:
        UsageError: it is not there.
    """
    if vectors != "faiss":
        return
    plugins = {row["component"] for row in catalogue.client.cat.plugins(params={"format": "json"})}
    if "opensearch-knn" not in plugins:
        raise UsageError("this server has no faiss: leave VLM4REC_INDEX_VECTORS at float32, quantized or on_disk")


def _read_live(catalogue: Catalogue, connection: duckdb.DuckDBPyConnection, live: ReleaseMeta | None) -> None:
    """Fill the tables `live_<kind>` with the hashes of what answers."""
    for kind in KINDS:
        index = catalogue.index(kind, live.name) if live else None
        read_hashes(catalogue.client, index, connection, f"live_{kind}")


def _base(connection: duckdb.DuckDBPyConnection, live: ReleaseMeta, meta: ReleaseMeta, force: bool) -> str:
    """Check that what answers can be changed into the new release, and return its name."""
    check_same_make(live, meta)
    _check_losses(connection, force)
    return live.name


def _check_losses(connection: duckdb.DuckDBPyConnection, force: bool) -> None:
    for kind in () if force else KINDS:
        check_losses(connection, kind, f"live_{kind}")


@contextmanager
def _building(catalogue: Catalogue, release: str) -> Iterator[None]:
    """Delete the indices when the block fails."""
    try:
        yield
    except BaseException:
        with suppress(Vlm4recError, exceptions.TransportError):  # the next publication sweeps them
            catalogue.delete(release)
        raise


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
    _wait_for_copies(catalogue, meta.name)
    meta = replace(meta, documents=counts["items"], users=counts["profiles"])
    for kind in reversed(KINDS):
        told = {**meta_body(meta, whole=True), "ef_search": ef_search}
        client.indices.put_mapping(index=catalogue.index(kind, meta.name), body={"_meta": told})
    return meta


def _wait_for_copies(catalogue: Catalogue, release: str) -> None:
    """Give a cluster of several nodes the time to copy the indices, so that no node alone has them when they answer."""
    indices = ",".join(catalogue.index(kind, release) for kind in KINDS)
    waited = {"wait_for_status": "green", "timeout": f"{COPYING:.0f}s"}
    catalogue.client.cluster.health(index=indices, params=waited, request_timeout=COPYING + 30, ignore=408)


def _summary(connection: duckdb.DuckDBPyConnection, meta: ReleaseMeta, before: ReleaseMeta | None) -> ReleaseSummary:
    rejected = dict(connection.execute("SELECT kind, count(*) FROM rejected GROUP BY kind").fetchall())
    added, changed, deleted = count_changes(connection)
    return ReleaseSummary(
        meta.name,
        meta.documents,
        added,
        changed,
        deleted,
        users=count(connection, "outgoing_profiles"),
        users_before=before.users if before else 0,
        rejected=rejected.get("document", 0),
        rejected_users=rejected.get("user", 0),
    )
