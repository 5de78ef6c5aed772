"""Publishes a release to a server: new indices, loaded and verified, before the aliases name them in one request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from opensearchpy import exceptions

from vlm4rec_search.common.errors import UsageError, Vlm4recError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.opensearch.aliases import Catalogue
from vlm4rec_search.indexes.opensearch.changes import check_losses, check_same_make, count_changes, read_hashes
from vlm4rec_search.indexes.opensearch.documents import prepare
from vlm4rec_search.indexes.opensearch.filling import Filling
from vlm4rec_search.indexes.opensearch.lease import lease
from vlm4rec_search.indexes.opensearch.mapping import KINDS, Kind, Vectors, meta_body
from vlm4rec_search.indexes.opensearch.refusals import server_errors
from vlm4rec_search.indexes.opensearch.switching import check_unchanged, prune, switch, switching
from vlm4rec_search.indexes.opensearch.verify import verify_documents, verify_recall, verify_searches, wait_for_copies
from vlm4rec_search.indexes.release import ReleaseMeta, ReleaseSummary
from vlm4rec_search.indexes.staging import STEPS, Frame, SearchTables, count, one_line, stage
from vlm4rec_search.pipeline.record import Publication, keep_refused

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
            what was refused, see `publications.refused_by`.
    """
    started = time.perf_counter()
    with _told(), lease(catalogue.client, catalogue.prefix) as held, _scratch() as connection:
        live = catalogue.live()
        _check_engine(catalogue, vectors)
        catalogue.sweep()
        before = catalogue.whole().get(live) if live else None
        with bar("staging the tables", STEPS + 1) as advance:
            meta = stage(connection, given, meta, advance)
            facets = prepare(connection)
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
    with one_line(), server_errors():
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
                keep_refused(error, connection.execute(_REFUSED).to_arrow_table())
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
    check_same_make(live, meta)
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
        users=count(connection, "outgoing_profiles"),
        users_before=before.users if before else 0,
        rejected=rejected.get("document", 0),
        rejected_users=rejected.get("user", 0),
    )
