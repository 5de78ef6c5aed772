"""Loads documents into an index: several connections, back-off, and not one document lost without a word."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from opensearchpy import OpenSearch, exceptions
from tenacity import Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_random_exponential

from vlm4rec_search.common.concurrency import run_concurrently
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.opensearch.bulk import FULL, MAY_PASS, Delivered, Delivery, Line, Operation, Rejection
from vlm4rec_search.indexes.opensearch.connection import UnreachableError, refusal

# The settings of an index while it is loaded: no refresh and no replicas, which would do every work again.

T = TypeVar("T")

_WHILE_LOADING = {"refresh_interval": "-1", "number_of_replicas": "0", "auto_expand_replicas": "false"}
_MARK = "settings_before_loading"  # in `_meta`, where the next load finds them when this one is killed
_BLOCK = "index.blocks.read_only_allow_delete"  # the server sets it when the disk is full


@contextmanager
def loading(client: OpenSearch, index: str, patience: float = 60.0) -> Iterator[None]:
    """Switch refresh and replicas off while the block runs, and restore them whatever happens.

    After a load that was killed the next one restores what stood before the first. When the block ends well, its
    documents are searchable.

    Args:
        client: from `connect`.
        index: an index that exists.
        patience: seconds for which restoring is tried while the server is away.

    Raises:
        RunError: the index does not exist, or cannot be restored.
    """
    before = _persist(lambda: _remember(client, index), patience, f"cannot prepare {index} for loading")
    try:
        client.indices.put_settings(index=index, body={"index": _WHILE_LOADING})
        yield
    finally:
        hint = f"{index} still has the settings of loading, load it again to restore them"
        _persist(lambda: _restore(client, index, before), patience, hint)
    _persist(lambda: client.indices.refresh(index=index, request_timeout=600), patience, f"cannot refresh {index}")


def _remember(client: OpenSearch, index: str) -> dict[str, str | None]:
    try:
        ((_, found),) = client.indices.get(index=index, flat_settings=True).items()
    except exceptions.NotFoundError:
        raise RunError(f"there is no index {index} to load") from None
    meta = found["mappings"].get("_meta", {})
    before: dict[str, str | None] = meta.get(_MARK) or {
        name: found["settings"].get(f"index.{name}") for name in _WHILE_LOADING
    }
    client.indices.put_mapping(index=index, body={"_meta": {**meta, _MARK: before}})
    return before


def _restore(client: OpenSearch, index: str, before: dict[str, str | None]) -> None:
    """Restore the settings, then forget them, in this order: a kill in between restores once more."""
    try:
        client.indices.put_settings(index=index, body={"index": before})
    except exceptions.NotFoundError:
        return  # somebody has deleted it: what the load says of that is what has to be told
    except exceptions.TransportError as error:
        if FULL not in refusal(error):
            raise
        _restore_blocked(client, index, before)
        return
    _forget(client, index)


def _restore_blocked(client: OpenSearch, index: str, before: dict[str, str | None]) -> None:
    """Lift the block of a full disk for a moment: while it stands the server changes no other setting."""
    client.indices.put_settings(index=index, body={_BLOCK: None})
    try:
        client.indices.put_settings(index=index, body={"index": before})
        _forget(client, index)
    finally:
        client.indices.put_settings(index=index, body={_BLOCK: True})


def _forget(client: OpenSearch, index: str) -> None:
    ((_, found),) = client.indices.get_mapping(index=index).items()
    meta = found["mappings"].get("_meta", {})
    client.indices.put_mapping(index=index, body={"_meta": {name: meta[name] for name in meta if name != _MARK}})


def _persist(act: Callable[[], T], patience: float, message: str) -> T:
    """Call until the server answers."""
    back_off = wait_random_exponential(multiplier=0.5, max=5.0)
    retrying = Retrying(
        retry=retry_if_exception(may_pass), stop=stop_after_delay(patience), wait=back_off, reraise=True
    )
    try:
        return retrying(act)
    except UnreachableError as error:
        raise RunError(f"{message}: {error}") from None
    except exceptions.TransportError as error:
        raise RunError(f"{message}: {refusal(error)}") from None


def may_pass(error: BaseException) -> bool:
    """Tell whether the same request may succeed later."""
    busy = isinstance(error, exceptions.TransportError) and error.status_code in MAY_PASS
    return busy or isinstance(error, UnreachableError)


CHUNK_BYTES = 5 * 2**20
CONNECTIONS = 4
PATIENCE = 120.0  # seconds


@dataclass
class Loaded:
    """What a load did: documents indexed, deleted and rejected, requests, and how many of those had to be repeated."""

    indexed: int = 0
    deleted: int = 0
    rejected: int = 0
    requests: int = 0
    repeated: int = 0
    seconds: float = 0.0

    def add(self, chunk: list[Line], delivered: Delivered) -> None:
        """Count a chunk."""
        rejected = {rejection.id for rejection in delivered.rejected}
        deleted = sum(line.deletes and line.id not in rejected for line in chunk)
        self.deleted += deleted
        self.rejected += len(delivered.rejected)
        self.indexed += len(chunk) - len(delivered.rejected) - deleted
        self.requests += delivered.requests
        self.repeated += delivered.repeated


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
) -> Loaded:
    """Index and delete documents; when it returns, each operation was done, or was handed to `on_rejected`.

    Documents that the server calls wrong are rejected, one by one, while the rest goes on. What may pass (429, 5xx,
    time-outs, lost connections) is repeated with back-off and jitter, in halves, so a document may be sent twice: it
    is whole and has an id. Memory: one chunk for each connection.

    Args:
        client: from `connect`.
        index: an index that exists; wrap the call in `loading`, which also makes the documents searchable.
        operations: with ids that are distinct, since chunks overtake each other.
        total: number of operations, for the progress bar.
        on_rejected: called in the caller's thread.
        connections: requests at once.
        chunk_bytes: of a request; becomes smaller when the server answers 413.
        patience: seconds for which a part of the documents is tried without any success.

    Raises:
        UnreachableError, BusyError: nothing was taken for `patience` seconds, such as when the disk is full.
        UsageError: certificate, credentials or rights are refused.
        RunError: there is no such index, or no longer, or it is closed for writing.
    """
    started, loaded = time.monotonic(), Loaded()
    with _alias(client, index) as alias, bar(f"loading {index}", total) as advance:
        delivery = Delivery(client, index, alias, chunk_bytes, patience)
        try:
            for chunk, delivered in run_concurrently(delivery.deliver, delivery.chunks(operations), connections):
                for rejection in delivered.rejected:
                    on_rejected(rejection)
                loaded.add(chunk, delivered)
                advance(len(chunk))
        finally:
            delivery.stopped.set()
    loaded.seconds = time.monotonic() - started
    return loaded


@contextmanager
def _alias(client: OpenSearch, index: str) -> Iterator[str]:
    """Give an index an alias to be loaded by; what is left of it after a kill does no harm, and goes with the index.

    Raises:
        RunError: there is no such index.
    """
    alias = f"{index}__loading"
    try:
        client.indices.put_alias(index=index, name=alias)
    except exceptions.NotFoundError:
        raise RunError(f"there is no index {index} to load") from None
    try:
        yield alias
    finally:
        with suppress(UnreachableError, exceptions.TransportError):
            client.indices.delete_alias(index=index, name=alias)
