"""One at a time: a document that stands in an index of its own, renewed as long as its holder lives.

There are two leases under a prefix. `PUBLISHER` is held for a whole publication, hours perhaps; `SWITCH` only by whom
lets another release answer, or takes old ones away, so that a rollback waits for no load.
"""

import os
import socket
import sys
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

Name = Literal["publisher", "switch"]

PUBLISHER: Name = "publisher"
SWITCH: Name = "switch"
RENEWED = 3.0  # seconds
LOST = 15.0  # seconds without a renewal after which somebody else may take it
_DOING = {PUBLISHER: "another publication is running", SWITCH: "somebody else is switching or removing releases"}
_THERE = "resource_already_exists_exception"
_FIELDS = {name: {"type": "keyword"} for name in ("holder", "machine", "renewal")} | {"process": {"type": "long"}}
_BODY = {
    "settings": {"index": {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": True}},
    "mappings": {"dynamic": "strict", "properties": _FIELDS},
}


class HeldError(RunError):
    """Somebody else has the lease."""


class Lease:
    """The right to do one thing under a prefix; no clock of another machine is believed."""

    def __init__(self, client: OpenSearch, prefix: str, name: Name) -> None:
        """Make the index of the leases where it is missing."""
        self._client, self._index, self._name = client, f"{prefix}vlm4rec-lease", name
        self._holder, self._ended, self._told = uuid4().hex, Event(), False
        try:
            client.indices.create(index=self._index, body=_BODY)
        except exceptions.RequestError as error:
            if error.error != _THERE:
                raise

    def take(self) -> None:
        """Take the lease, also from a holder that has not renewed it for `LOST` seconds, which are waited for.

        Raises:
            RunError: somebody else has it.
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
            self._client.delete(index=self._index, id=self._name, **_same(self._place))

    def _document(self) -> dict[str, Any]:
        body = {"holder": self._holder, "machine": socket.gethostname(), "process": os.getpid(), "renewal": uuid4().hex}
        return {"index": self._index, "id": self._name, "body": body}

    def _get(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.get(index=self._index, id=self._name, realtime=True)
        except exceptions.NotFoundError:
            return None
        return found

    def _wait_for_the_dead(self, found: dict[str, Any]) -> None:
        if not self._told:
            self._told = True
            print(f"waiting up to {LOST:.0f} s to see whether {_who(found)} lives", file=sys.stderr)
        deadline = time.monotonic() + LOST
        while time.monotonic() < deadline:
            time.sleep(min(0.5, LOST / 4))
            now = self._get()
            if now is None or now["_seq_no"] != found["_seq_no"]:
                self._refuse(now or found)

    def _refuse(self, found: dict[str, Any]) -> None:
        raise HeldError(f"{_DOING[self._name]} ({_who(found)}): wait until it has ended")


@contextmanager
def lease(client: OpenSearch, prefix: str, name: Name = PUBLISHER, patience: float = 0.0) -> Iterator[Lease]:
    """Hold a lease while the block runs; who has it is waited for `patience` seconds.

    Raises:
        HeldError: somebody else has it.
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


def _who(found: dict[str, Any]) -> str:
    source = found.get("_source")
    return f"process {source['process']} of {source['machine']}" if source else "somebody else"


def _same(found: dict[str, Any]) -> dict[str, int]:
    return {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
