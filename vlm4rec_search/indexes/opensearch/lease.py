"""Leases: each is a document in an index of its own, and its holder renews it while it lives.

There are two leases under a prefix. `PUBLISHER` is held for a whole publication, which may take hours. `ACTIVATION` is
held only while a release is activated or old ones are removed, so that a rollback does not wait for a load.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, Literal
from uuid import uuid4

from opensearchpy import OpenSearch, exceptions
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.connection import UnreachableError
from vlm4rec_search.indexes.opensearch.disk import DISK_BLOCK, is_disk_full

logger = logging.getLogger(__name__)

Name = Literal["publisher", "switch"]

PUBLISHER: Name = "publisher"
ACTIVATION: Name = "switch"
RENEWED = 3.0  # seconds between renewals
LOST = 15.0  # seconds without a renewal after which another process may take the lease
_ACTIVITIES = {
    PUBLISHER: "another publication is running",
    ACTIVATION: "another process is activating or removing releases",
}
_INDEX_EXISTS = "resource_already_exists_exception"
_FIELDS = {name: {"type": "keyword"} for name in ("holder", "machine", "renewal")} | {"process": {"type": "long"}}
_BODY = {
    "settings": {"index": {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": True}},
    "mappings": {"dynamic": "strict", "properties": _FIELDS},
}


class HeldError(RunError):
    """Another process holds the lease."""


class Lease:
    """The right of one process to do one activity under a prefix; it does not rely on the clocks of other machines."""

    def __init__(self, client: OpenSearch, prefix: str, name: Name) -> None:
        """Create the index of the leases where it is missing."""
        self._client, self._index, self._name = client, f"{prefix}vlm4rec-lease", name
        self._holder, self._ended, self._has_announced_wait = uuid4().hex, Event(), False
        try:
            if not client.indices.exists(index=self._index):  # a server whose disk is full creates none
                client.indices.create(index=self._index, body=_BODY)
        except exceptions.RequestError as error:
            if error.error != _INDEX_EXISTS:
                raise

    def take(self) -> None:
        """Take the lease. A lease that another process left is taken after `LOST` seconds without a renewal.

        Raises:
            HeldError: another process holds it.
        """
        current = self._read()
        if current is not None:
            self._wait_until_lost(current)
        try:
            if current is None:
                self._version = self._write(op_type="create")
            else:
                self._version = self._write(**_unchanged(current))
        except exceptions.ConflictError:
            self._refuse(self._read() or {})
        logger.debug("took the lease %s of %s", self._name, self._index)

    def renew(self) -> None:
        """Show that the holder lives.

        Raises:
            HeldError: another process has taken the lease.
            UnreachableError: the server is away.
        """
        try:
            self._version = self._write(**_unchanged(self._version))
        except exceptions.ConflictError:
            current = self._read() or {}
            if current.get("_source", {}).get("holder") != self._holder:
                self._refuse(current)
            self._version = current  # only the answer to an earlier renewal was lost

    def keep(self) -> None:
        """Renew until `end`."""
        while not self._ended.wait(RENEWED):
            with suppress(UnreachableError, exceptions.TransportError, RunError):  # the holder renews and sees it
                self.renew()

    def end(self, keeper: Thread) -> None:
        """Give the lease back if it is still ours; without a server it is lost after `LOST` seconds."""
        self._ended.set()
        keeper.join(timeout=LOST)  # a renewal between our renewal and the deletion would keep the lease
        with suppress(UnreachableError, exceptions.TransportError, RunError):
            self.renew()
            self._client.delete(index=self._index, id=self._name, **_unchanged(self._version))

    def _write(self, **parameters: Any) -> dict[str, Any]:
        """Write the document, also on a full disk: otherwise nobody could remove the releases that fill it."""
        body = {"holder": self._holder, "machine": socket.gethostname(), "process": os.getpid(), "renewal": uuid4().hex}
        document = {"index": self._index, "id": self._name, "body": body, **parameters}
        try:
            written: dict[str, Any] = self._client.index(**document)
        except exceptions.TransportError as error:
            if not is_disk_full(error):
                raise
            # It stays lifted, since another lease may be written at the same time; the server soon sets it again.
            self._client.indices.put_settings(index=self._index, body={DISK_BLOCK: None})
            written = self._client.index(**document)
        return written

    def _read(self) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = self._client.get(index=self._index, id=self._name, realtime=True)
        except exceptions.NotFoundError:
            return None
        return document

    def _wait_until_lost(self, current: dict[str, Any]) -> None:
        if not self._has_announced_wait:
            self._has_announced_wait = True
            logger.info("waiting up to %.0f s to see whether %s is still running", LOST, _holder_of(current))
        deadline = time.monotonic() + LOST
        while time.monotonic() < deadline:
            time.sleep(min(0.5, LOST / 4))
            latest = self._read()
            if latest is None or latest["_seq_no"] != current["_seq_no"]:
                self._refuse(latest or current)

    def _refuse(self, current: dict[str, Any]) -> None:
        raise HeldError(f"{_ACTIVITIES[self._name]} ({_holder_of(current)}): wait until it has ended")


@contextmanager
def lease(client: OpenSearch, prefix: str, name: Name = PUBLISHER, patience: float = 0.0) -> Iterator[Lease]:
    """Hold a lease while the block runs, after waiting up to `patience` seconds for another holder.

    Raises:
        HeldError: another process holds it.
    """
    held = Lease(client, prefix, name)
    retry = retry_if_exception_type(HeldError)
    Retrying(retry=retry, stop=stop_after_delay(patience), wait=wait_random(0.05, 0.2), reraise=True)(held.take)
    keeper = Thread(target=held.keep, daemon=True)
    keeper.start()
    try:
        yield held
    finally:
        held.end(keeper)


def _holder_of(document: dict[str, Any]) -> str:
    source = document.get("_source")
    return f"process {source['process']} of {source['machine']}" if source else "another process"


def _unchanged(document: dict[str, Any]) -> dict[str, int]:
    """Return the parameters of a write that fails when the document was written meanwhile."""
    return {"if_seq_no": document["_seq_no"], "if_primary_term": document["_primary_term"]}
