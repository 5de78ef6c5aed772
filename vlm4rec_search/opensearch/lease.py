"""One publisher at a time: a document that stands in an index of its own, renewed as long as its holder lives."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.errors import RunError
from vlm4rec_search.opensearch.connection import UnreachableError

RENEWED = 3.0  # seconds
LOST = 15.0  # seconds without a renewal after which somebody else may publish
_ID = "publisher"
_FIELDS = {name: {"type": "keyword"} for name in ("holder", "machine", "renewal")} | {"process": {"type": "long"}}
_BODY = {
    "settings": {"index": {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": True}},
    "mappings": {"dynamic": "strict", "properties": _FIELDS},
}


class Lease:
    """The right to publish under a prefix; no clock of another machine is believed."""

    def __init__(self, client: OpenSearch, prefix: str) -> None:
        """Make the index of the lease where it is missing."""
        self._client, self._index = client, f"{prefix}vlm4rec-lease"
        self._holder, self._ended = uuid4().hex, Event()
        with suppress(exceptions.RequestError):  # it is there
            client.indices.create(index=self._index, body=_BODY)

    def take(self) -> None:
        """Take the lease, also from a holder that has not renewed it for `LOST` seconds, which are waited for.

        Raises:
            RunError: somebody else is publishing.
        """
        found: dict[str, Any] | None = self._get()
        if found is not None:
            self._wait_for_the_dead(found)
        try:
            if found is None:
                self._place = self._client.index(**self._document(), op_type="create")
            else:
                self._place = self._client.index(**self._document(), **_same(found))
        except exceptions.ConflictError:
            self._refuse(self._get() or {})

    def renew(self) -> None:
        """Show that the holder lives.

        Raises:
            RunError: somebody else has taken the lease.
            UnreachableError: the server is away.
        """
        try:
            self._place = self._client.index(**self._document(), **_same(self._place))
        except exceptions.ConflictError:
            found = self._get() or {}
            if found.get("_source", {}).get("holder") != self._holder:  # else an answer to a renewal was lost
                self._refuse(found)
            self._place = found

    def keep(self) -> None:
        """Renew until `end`."""
        while not self._ended.wait(RENEWED):
            with suppress(UnreachableError, exceptions.TransportError, RunError):  # `renew` before the switch tells
                self.renew()

    def end(self, keeper: Thread) -> None:
        """Give the lease back, if it is still ours and the server is there; else it is lost in time."""
        self._ended.set()
        keeper.join(timeout=LOST)  # a renewal between ours and the deletion would keep the lease
        with suppress(UnreachableError, exceptions.TransportError, RunError):
            self.renew()
            self._client.delete(index=self._index, id=_ID, **_same(self._place))

    def _document(self) -> dict[str, Any]:
        body = {"holder": self._holder, "machine": socket.gethostname(), "process": os.getpid(), "renewal": uuid4().hex}
        return {"index": self._index, "id": _ID, "body": body}

    def _get(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.get(index=self._index, id=_ID, realtime=True)
        except exceptions.NotFoundError:
            return None
        return found

    def _wait_for_the_dead(self, found: dict[str, Any]) -> None:
        deadline = time.monotonic() + LOST
        while time.monotonic() < deadline:
            time.sleep(min(0.5, LOST / 4))
            now = self._get()
            if now is None or now["_seq_no"] != found["_seq_no"]:
                self._refuse(now or found)

    def _refuse(self, found: dict[str, Any]) -> None:
        source = found.get("_source", {})
        who = f"process {source['process']} of {source['machine']}" if source else "somebody else"
        raise RunError(f"another publication is running ({who}): wait until it has ended")


@contextmanager
def lease(client: OpenSearch, prefix: str) -> Iterator[Lease]:
    """Hold the lease while the block runs.

    Raises:
        RunError: somebody else is publishing under this prefix.
    """
    held = Lease(client, prefix)
    held.take()
    keeper = Thread(target=held.keep, daemon=True)
    keeper.start()
    try:
        yield held
    finally:
        held.end(keeper)


def _same(found: dict[str, Any]) -> dict[str, int]:
    return {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
