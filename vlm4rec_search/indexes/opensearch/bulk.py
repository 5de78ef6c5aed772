"""Sends operations through the server's `_bulk` API: one request, a chunk in as many as it takes, or deletions."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import orjson
import pyarrow as pa
from opensearchpy import OpenSearch
from opensearchpy.helpers import streaming_bulk
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, stop_after_delay
from tenacity.wait import wait_random_exponential

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.retry_after import retry_after
from vlm4rec_search.indexes.opensearch.connection import (
    TRANSIENT_STATUSES,
    UnreachableError,
    connection_errors,
    describe_error,
)
from vlm4rec_search.indexes.opensearch.disk import DISK_FULL

logger = logging.getLogger(__name__)

Operation: TypeAlias = tuple[str, bytes | None]  # id, and the whole document as JSON; None deletes
_Item: TypeAlias = Mapping[str, Mapping[str, Any]]  # Any: whatever JSON the server sends

_PARAMETERS = {"filter_path": "errors,error,items.*.status,items.*.error"}
_REPLIES = frozenset(range(400, 600)) - {401, 403}  # statuses that become a reply; the others are raised
_NDJSON = {"content-type": "application/x-ndjson"}
_INVALID, _TOO_LARGE = 400, 413
_BACK_OFF = wait_random_exponential(multiplier=0.5, max=15.0)
_LONGEST_PAUSE = 60.0  # seconds, even if Retry-After asks for more


class Line(NamedTuple):
    """An operation in the form in which it is sent."""

    id: str
    data: bytes
    deletes: bool


_Pieces: TypeAlias = list[list[Line]]


class Rejection(NamedTuple):
    """A document that the server refuses, with the HTTP status and the server's reason."""

    id: str
    status: int
    reason: str


class Reply(NamedTuple):
    """The answer to a request.

    Attributes:
        status: of HTTP.
        reason: why the whole request was refused, "" otherwise.
        pause: seconds that Retry-After asks for.
        refused: refused operations by their position in the request.
    """

    status: int
    reason: str
    pause: float
    refused: dict[int, Rejection]


def encode(operation: Operation) -> Line:
    """Return the lines of an operation.

    Line breaks in a body can only be white space between its tokens; they become spaces, since a line break would begin
    another operation.
    """
    name, body = operation
    if body is None:
        return Line(name, orjson.dumps({"delete": {"_id": name}}) + b"\n", deletes=True)
    action = orjson.dumps({"index": {"_id": name}})
    return Line(name, b"%b\n%b\n" % (action, body.replace(b"\n", b" ")), deletes=False)


def documents(
    batches: Iterable[pa.RecordBatch], id_column: str, vector_columns: Sequence[str], json_columns: Collection[str] = ()
) -> Iterator[Operation]:
    """Yield each row as an operation that indexes the whole document.

    The vectors (lists of float32) are written straight from the arrow buffer, as the shortest decimals that read as the
    same float32. A null vector is left out of its document. `json_columns` hold JSON text, which is written unchanged.
    """
    for batch in batches:
        vectors = {name: batch.column(batch.schema.get_field_index(name)) for name in vector_columns}
        for row, values in enumerate(batch.drop_columns(list(vector_columns)).to_pylist()):
            values |= {name: column[row].values.to_numpy() for name, column in vectors.items() if column[row].is_valid}
            values |= {name: orjson.Fragment(values[name]) for name in json_columns if values[name] is not None}
            yield str(values[id_column]), orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)


def post(client: OpenSearch, index: str, lines: Sequence[Line], is_alias: bool = False) -> Reply:
    """Send operations in one request.

    Args:
        client: from `connect`.
        index: its name; the server creates a missing index and guesses the types of its fields.
        lines: the operations.
        is_alias: refuse the request unless `index` is an alias. An alias disappears together with its index, so a
            deleted index is not created anew.

    Raises:
        UnreachableError: there is no answer.
        UsageError: certificate, credentials or rights are refused.
    """
    connection = client.transport.get_connection()  # the pooled connection, which gives status and headers
    path, body = f"/{quote(index, safe='')}/_bulk", b"".join(line.data for line in lines)
    parameters = {**_PARAMETERS, "require_alias": "true"} if is_alias else _PARAMETERS
    with connection_errors(f"{connection.host}{connection.url_prefix}"):
        status, headers, text = connection.perform_request(
            "POST", path, parameters, body, ignore=_REPLIES, headers=_NDJSON
        )
    answer = _parse(text)
    pause = retry_after(headers) or 0.0
    if status != 200:
        return Reply(status, describe_error(answer.get("error")) or f"status {status}", pause, {})
    items = answer.get("items", [])
    if "errors" not in answer or len(items) != len(lines):
        return Reply(502, "the answer does not come from OpenSearch", pause, {})
    return Reply(status, "", pause, dict(_refused(lines, items)) if answer["errors"] else {})


def delete_documents(client: OpenSearch, index: str, ids: Iterable[str]) -> None:
    """Delete documents, several hundred in one request; one that is missing is no error.

    Args:
        client: from `connect`.
        index: its name.
        ids: of the documents.

    Raises:
        UnreachableError: there is no answer.
        RunError: the server keeps a document. A repeated call deletes what is left.
    """
    actions = ({"_op_type": "delete", "_index": index, "_id": id_} for id_ in ids)
    outcomes = (outcome["delete"] for _, outcome in streaming_bulk(client, actions, raise_on_error=False))
    if kept := sum(outcome["status"] not in (200, 404) for outcome in outcomes):
        raise RunError(f"{index} keeps {kept:,} documents that were to be deleted: run the command again")


def _refused(lines: Sequence[Line], items: Sequence[_Item]) -> Iterator[tuple[int, Rejection]]:
    for position, (line, item) in enumerate(zip(lines, items, strict=True)):
        (outcome,) = item.values()
        if "error" in outcome:  # deleting a missing document has status 404 and no error
            yield position, Rejection(line.id, outcome["status"], describe_error(outcome["error"]))


def _parse(text: str) -> dict[str, Any]:
    """Return the answer, {} for the page of a proxy."""
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


class BusyError(RunError):
    """The server takes no documents at the moment.

    Attributes:
        pause: seconds that the server asks to wait.
    """

    def __init__(self, index: str, status: int, reason: str, pause: float) -> None:
        """Quote the server's reason."""
        hint = " Free disk space: the server then opens the index by itself." if DISK_FULL in reason else ""
        super().__init__(f"{index} takes no documents: {status}, {reason.rstrip('.;')}.{hint}")
        self.pause = min(pause, _LONGEST_PAUSE)


@dataclass
class Delivered:
    """The outcome of a chunk: rejected documents, requests sent, and how many of these were followed by a repeat."""

    rejected: list[Rejection] = field(default_factory=list)
    requests: int = 0
    repeated: int = 0


class Delivery:
    """Cuts operations into chunks and delivers them; several threads may deliver at once.

    Attributes:
        stopped: once it is set, no thread sends or waits any longer.
    """

    def __init__(self, client: OpenSearch, index: str, alias: str, chunk_bytes: int, patience: float) -> None:
        """Deliver to an index through its alias, in requests of at most `chunk_bytes`, each for `patience` seconds."""
        self.stopped = Event()
        self._client, self._index, self._alias, self._limit = client, index, alias, chunk_bytes
        self._retrying = Retrying(
            retry=retry_if_exception_type((BusyError, UnreachableError)),
            stop=stop_after_delay(patience),
            wait=_wait,
            sleep=sleep_using_event(self.stopped),
            reraise=True,
        )

    def chunks(self, operations: Iterable[Operation]) -> Iterator[list[Line]]:
        """Yield the operations in chunks of at most the limit; a larger document is a chunk of its own."""
        chunk: list[Line] = []
        size = 0
        for line in map(encode, operations):
            if chunk and size + len(line.data) > self._limit:
                yield chunk
                chunk, size = [], 0
            chunk.append(line)
            size += len(line.data)
        if chunk:
            yield chunk

    def deliver(self, chunk: list[Line]) -> Delivered:
        """Send a chunk, and repeat parts of it, until every operation is done or rejected.

        Raises:
            UnreachableError, BusyError: the server did not take a part of the chunk in time.
            UsageError: certificate, credentials or rights are refused.
            RunError: the index takes no document at all, or the delivery was stopped.
        """
        pieces, delivered = [chunk], Delivered()  # the last piece is sent next
        while pieces:
            self._retrying(self._send, pieces, delivered)
        return delivered

    def _send(self, pieces: _Pieces, delivered: Delivered) -> None:
        """Send the next piece; put back what has to be repeated, and raise when the repeat has to wait."""
        if self.stopped.is_set():
            raise RunError("the load was stopped")
        delivered.requests += 1
        piece = pieces.pop()
        try:
            reply = post(self._client, self._alias, piece, is_alias=True)
        except UnreachableError:
            _put_back(pieces, piece, delivered)
            raise
        if reply.status == 200:
            self._sort_refused(piece, reply, pieces, delivered)
        elif reply.status in TRANSIENT_STATUSES:
            _put_back(pieces, piece, delivered)
            raise BusyError(self._index, reply.status, reply.reason, reply.pause)
        else:
            self._narrow_down(piece, reply, pieces, delivered)

    def _narrow_down(self, piece: list[Line], reply: Reply, pieces: _Pieces, delivered: Delivered) -> None:
        """Find the document that makes a request too large or invalid, such as one whose id is too long."""
        if reply.status not in (_INVALID, _TOO_LARGE):
            raise RunError(f"cannot load {self._index}: {reply.reason}")
        if len(piece) == 1:
            delivered.rejected.append(Rejection(piece[0].id, reply.status, reply.reason))
            return
        if reply.status == _TOO_LARGE:
            self._limit = min(self._limit, sum(len(line.data) for line in piece) // 2)
        _put_back(pieces, piece, delivered)

    def _sort_refused(self, piece: list[Line], reply: Reply, pieces: _Pieces, delivered: Delivered) -> None:
        """Count invalid documents as rejected, and put back documents that the server may take later."""
        for refused in reply.refused.values():
            if refused.status != _INVALID and refused.status not in TRANSIENT_STATUSES:
                raise RunError(f"cannot load {self._index}: {refused.reason}")
        delivered.rejected += [refused for refused in reply.refused.values() if refused.status == _INVALID]
        later = {position: refused for position, refused in reply.refused.items() if refused.status != _INVALID}
        if later:
            pieces.append([piece[position] for position in later])
            delivered.repeated += 1
            first = next(iter(later.values()))
            raise BusyError(self._index, first.status, first.reason, reply.pause)


def _put_back(pieces: _Pieces, piece: list[Line], delivered: Delivered) -> None:
    """Put back the halves of a piece: a smaller request may pass."""
    middle = len(piece) // 2
    pieces.extend(half for half in (piece[middle:], piece[:middle]) if half)
    delivered.repeated += 1


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    seconds = max(_BACK_OFF(state), error.pause if isinstance(error, BusyError) else 0.0)
    logger.debug("a bulk request is repeated in %.1f s: %s", seconds, error)
    return seconds
