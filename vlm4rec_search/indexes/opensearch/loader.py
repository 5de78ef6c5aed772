"""Loads documents into an index over several connections, with back-off, and accounts for every single document."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.common.concurrency import run_concurrently
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.opensearch.bulk import Delivered, Delivery, Line, Operation, Rejection
from vlm4rec_search.indexes.opensearch.connection import UnreachableError, describe_refusal, until_answered
from vlm4rec_search.indexes.opensearch.disk import change_despite_full_disk
from vlm4rec_search.indexes.opensearch.mapping import loading_alias
from vlm4rec_search.indexes.release import Load

T = TypeVar("T")

CHUNK_BYTES = 5 * 2**20
CONNECTIONS = 4
PATIENCE = 120.0  # seconds
_SETTINGS_PATIENCE = 60.0  # seconds for which settings are tried to be changed while the server is away
_WHILE_LOADING = {"refresh_interval": "-1", "number_of_replicas": "0", "auto_expand_replicas": "false"}
_BACKUP = "settings_before_loading"  # in `_meta`; after a killed load the next one restores the settings from here


def load(
    client: OpenSearch,
    index: str,
    operations: Iterable[Operation],
    total: int,
    on_rejected: Callable[[Rejection], None],
    *,
    connections: int = CONNECTIONS,
    chunk_bytes: int = CHUNK_BYTES,
    patience: float = PATIENCE,
) -> Load:
    """Index and delete documents. When it returns, every operation is done or was passed to `on_rejected`.

    Invalid documents are rejected one by one while the others are loaded. After a transient failure (429, 5xx,
    time-out, lost connection) a request is repeated in halves, with back-off and jitter. So a document may be sent
    twice, which is harmless: it is whole and has an id. Memory holds one chunk for each connection.

    Args:
        client: from `connect`.
        index: an index that exists; wrap the call in `loading`, which also makes the documents searchable.
        operations: with distinct ids, since chunks overtake each other.
        total: number of operations, for the progress bar.
        on_rejected: called in the caller's thread.
        connections: requests at once.
        chunk_bytes: largest request; it shrinks when the server answers 413.
        patience: seconds without any success after which the load gives up.

    Raises:
        UnreachableError, BusyError: the server took nothing for `patience` seconds, for example with a full disk.
        UsageError: certificate, credentials or rights are refused.
        RunError: the index does not exist, was deleted meanwhile, or is closed for writing.
    """
    started, loaded = time.monotonic(), Load(index)
    with _loading_alias(client, index) as alias, bar(f"loading {index}", total) as advance:
        delivery = Delivery(client, index, alias, chunk_bytes, patience)
        try:
            for chunk, delivered in run_concurrently(delivery.deliver, delivery.chunks(operations), connections):
                for rejection in delivered.rejected:
                    on_rejected(rejection)
                _add(loaded, chunk, delivered)
                advance(len(chunk))
        finally:
            delivery.stopped.set()
    loaded.seconds = time.monotonic() - started
    return loaded


def _add(loaded: Load, chunk: list[Line], delivered: Delivered) -> None:
    """Add the counts of a chunk."""
    rejected = {rejection.id for rejection in delivered.rejected}
    deleted = sum(line.deletes and line.id not in rejected for line in chunk)
    loaded.deleted += deleted
    loaded.rejected += len(delivered.rejected)
    loaded.indexed += len(chunk) - len(delivered.rejected) - deleted
    loaded.requests += delivered.requests
    loaded.repeated += delivered.repeated


@contextmanager
def _loading_alias(client: OpenSearch, index: str) -> Iterator[str]:
    """Give an index an alias for the load; the alias that a killed load leaves is harmless and goes with the index.

    Raises:
        RunError: the index does not exist.
    """
    alias = loading_alias(index)
    try:
        client.indices.put_alias(index=index, name=alias)
    except exceptions.NotFoundError:
        raise RunError(f"there is no index {index} to load") from None
    try:
        yield alias
    finally:
        with suppress(UnreachableError, exceptions.TransportError):
            client.indices.delete_alias(index=index, name=alias)


@contextmanager
def loading(client: OpenSearch, index: str) -> Iterator[None]:
    """Switch refresh and replicas off while the block runs, and always restore them.

    Both would repeat all work of a load. After a killed load the next one restores the settings from before the first.
    When the block ends without an error, its documents are searchable.

    Args:
        client: from `connect`.
        index: an index that exists.

    Raises:
        RunError: the index does not exist, or its settings cannot be restored.
    """
    before = _answer(lambda: _back_up(client, index), f"cannot prepare {index} for loading")
    try:
        client.indices.put_settings(index=index, body={"index": _WHILE_LOADING})
        yield
    finally:
        hint = f"{index} still has the settings of loading, load it again to restore them"
        _answer(lambda: _restore(client, index, before), hint)
    _answer(lambda: client.indices.refresh(index=index, request_timeout=600), f"cannot refresh {index}")


def _back_up(client: OpenSearch, index: str) -> dict[str, str | None]:
    """Return the settings from before the load, and store them in `_meta`."""
    try:
        ((_, description),) = client.indices.get(index=index, flat_settings=True).items()
    except exceptions.NotFoundError:
        raise RunError(f"there is no index {index} to load") from None
    meta = description["mappings"].get("_meta", {})
    before: dict[str, str | None] = meta.get(_BACKUP) or {
        name: description["settings"].get(f"index.{name}") for name in _WHILE_LOADING
    }
    client.indices.put_mapping(index=index, body={"_meta": {**meta, _BACKUP: before}})
    return before


def _restore(client: OpenSearch, index: str, before: dict[str, str | None]) -> None:
    """Restore the settings, then drop their backup: a kill in between makes the next load restore them once more."""

    def restore() -> None:
        client.indices.put_settings(index=index, body={"index": before})
        _drop_backup(client, index)

    with suppress(exceptions.NotFoundError):  # the index was deleted; the error of the load says so
        change_despite_full_disk(client, index, restore)


def _drop_backup(client: OpenSearch, index: str) -> None:
    ((_, description),) = client.indices.get_mapping(index=index).items()
    meta = description["mappings"].get("_meta", {})
    client.indices.put_mapping(index=index, body={"_meta": {name: meta[name] for name in meta if name != _BACKUP}})


def _answer(request: Callable[[], T], message: str) -> T:
    """Repeat a request until the server answers it, and say what failed where it does not."""
    try:
        return until_answered(_SETTINGS_PATIENCE)(request)
    except UnreachableError as error:
        raise RunError(f"{message}: {error}") from None
    except exceptions.TransportError as error:
        raise RunError(f"{message}: {describe_refusal(error)}") from None
