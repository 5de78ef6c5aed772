"""Loads documents into an index: several connections, back-off, and not one document lost without a word."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.common.concurrency import completed
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.opensearch.bulk import Delivered, Delivery
from vlm4rec_search.indexes.opensearch.connection import UnreachableError
from vlm4rec_search.indexes.opensearch.old_bulk import Line, Operation, Rejection

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
            for chunk, delivered in completed(delivery.deliver, delivery.chunks(operations), connections):
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
