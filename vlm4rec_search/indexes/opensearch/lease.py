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
from tenacity import Retrying, retry_if_exception, retry_if_exception_type, stop_after_delay, wait_random
from tenacity.wait import wait_random_exponential

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.indexes.opensearch.aliases import Catalogue
from vlm4rec_search.indexes.opensearch.connection import UnreachableError, refusal
from vlm4rec_search.indexes.opensearch.loader import may_pass
from vlm4rec_search.indexes.releases import KEPT

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


# The switch from one release to another: one at a time, in one request, and what is said of it afterwards is true.

PATIENCE = 60.0  # seconds for which somebody else's switch is waited for, and a server that went away during ours


@contextmanager
def switching(catalogue: Catalogue) -> Iterator[Lease]:
    """Let nobody else switch or remove releases while the block runs; a load that is running is not waited for.

    Raises:
        HeldError: somebody else has been at it for `PATIENCE` seconds.
    """
    with lease(catalogue.client, catalogue.prefix, SWITCH, PATIENCE) as turn:
        yield turn


def switch(catalogue: Catalogue, release: str, turn: Lease) -> None:
    """Let a release answer, in the block of `switching` that gave `turn`.

    Where the answer of the server is lost, the switch may have been made or not: it is asked which release answers, and
    sent the same request again where that is not this one.

    Raises:
        RunError: the server refuses, and nothing has changed; or it stays away, and nobody knows.
    """
    back_off = wait_random_exponential(multiplier=0.5, max=5.0)
    stop = stop_after_delay(PATIENCE)
    try:
        for attempt in Retrying(retry=retry_if_exception(may_pass), stop=stop, wait=back_off, reraise=True):
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    if _answers(catalogue, release):
                        return
                    turn.renew()  # else what somebody else has switched to meanwhile would be undone
                catalogue.switch(release)
    except (UnreachableError, exceptions.TransportError) as error:
        if not may_pass(error):
            raise
        told = refusal(error) if isinstance(error, exceptions.TransportError) else str(error)
        raise RunError(
            f"nobody knows whether {release} answers, which is whole and stays: {told}; `vlm4rec releases list` tells"
            " when the server is back"
        ) from None


def check_unchanged(catalogue: Catalogue, before: str | None, release: str) -> None:
    """Refuse to take the place of a release that somebody has let answer while this one was built.

    Raises:
        RunError: another one answers than `before`.
    """
    now = catalogue.live()
    if now != before:
        raise RunError(
            f"not published: {now or 'no release'} was made to answer while {release} was built, which is whole now:"
            f" `vlm4rec releases rollback {release}` lets it answer; --force does not ask"
        )


def prune(catalogue: Catalogue, needed: set[str], kept: int = KEPT) -> list[str]:
    """Delete all but the newest `kept` releases and those that are needed, in a block of `switching`.

    Whoever is searching one of them opens the index again.

    Returns:
        Their names.
    """
    removed = []
    with suppress(Vlm4recError, exceptions.TransportError):  # what ended well must not end badly over this
        for name in list(catalogue.whole())[:-kept]:
            if name not in needed:
                catalogue.delete(name)
                removed.append(name)
    return removed


def _answers(catalogue: Catalogue, release: str) -> bool:
    try:
        return catalogue.live() == release
    except UsageError:  # the aliases are in the disorder that this switch is to end
        return False
