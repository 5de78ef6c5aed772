"""Brings one chunk of operations to the server, in as many requests as it takes."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import orjson
import pyarrow as pa
from opensearchpy import OpenSearch
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, stop_after_delay
from tenacity.wait import wait_random_exponential

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.connection import UnreachableError, one_line, reason_of

# One `_bulk` request: what goes in, and what the server says of it.

Operation: TypeAlias = tuple[str, bytes | None]  # id, and the whole document as JSON; None deletes
_Item: TypeAlias = Mapping[str, Mapping[str, Any]]  # Any: whatever JSON the server sends
_PATH = {"filter_path": "errors,error,items.*.status,items.*.error"}
_TOLD = frozenset(range(400, 600)) - {401, 403}  # statuses that come as a reply; the others are raised
_NDJSON = {"content-type": "application/x-ndjson"}


class Line(NamedTuple):
    """An operation as it is sent."""

    id: str
    data: bytes
    deletes: bool


class Rejection(NamedTuple):
    """A document that the server refuses, with the HTTP status and the server's reason."""

    id: str
    status: int
    reason: str


class Reply(NamedTuple):
    """The answer to a request: `refused` is by place in the request; `pause` (seconds) is what Retry-After asks."""

    status: int
    reason: str
    pause: float
    refused: dict[int, Rejection]


def encode(operation: Operation) -> Line:
    """Return the lines of an operation.

    A line break in a body, which can only be white space between its tokens, would begin another operation.
    """
    name, body = operation
    action = orjson.dumps({"index" if body is not None else "delete": {"_id": name}})
    return Line(
        name, b"%b\n%b\n" % (action, body.replace(b"\n", b" ")) if body is not None else action + b"\n", body is None
    )


def documents(
    batches: Iterable[pa.RecordBatch], id_column: str, vector_column: str, json_columns: Collection[str] = ()
) -> Iterator[Operation]:
    """Yield each row as an operation that indexes it whole.

    The vectors (lists of float32) are written straight from the arrow buffer, as the shortest decimals that are the
    same float32. A null vector is left out of its document; `json_columns` hold JSON text, which stays what it is;
    other columns are written as they are.
    """
    for batch in batches:
        place = batch.schema.get_field_index(vector_column)
        vectors = batch.column(place)
        fields = batch.drop_columns([vector_column]).to_pylist()
        for row, values in enumerate(fields):
            if vectors[row].is_valid:
                values[vector_column] = vectors[row].values.to_numpy()
            values |= {name: orjson.Fragment(values[name]) for name in json_columns if values[name] is not None}
            yield str(values[id_column]), orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)


def post(client: OpenSearch, index: str, lines: Sequence[Line], is_alias: bool = False) -> Reply:
    """Send operations in one request.

    Args:
        client: from `connect`.
        index: its name; the server makes it, with guessed types, where it is not there (any more).
        lines: the operations.
        is_alias: the name has to be an alias, which an index that is deleted takes along: then nothing is made.

    Raises:
        UnreachableError: no answer.
        UsageError: certificate, credentials or rights are refused.
    """
    connection = client.transport.get_connection()  # the pooled connection itself: only it gives status and headers
    path, body = f"/{quote(index, safe='')}/_bulk", b"".join(line.data for line in lines)
    asked = {**_PATH, "require_alias": "true"} if is_alias else _PATH
    with one_line(f"{connection.host}{connection.url_prefix}"):
        status, headers, text = connection.perform_request("POST", path, asked, body, ignore=_TOLD, headers=_NDJSON)
    answer = _parsed(text)
    pause = _seconds(headers.get("retry-after", ""))
    if status != 200:
        return Reply(status, reason_of(answer.get("error")) or f"status {status}", pause, {})
    items = answer.get("items", [])
    if "errors" not in answer or len(items) != len(lines):
        return Reply(502, "the answer is not one of OpenSearch", pause, {})
    return Reply(status, "", pause, dict(_refused(lines, items)) if answer["errors"] else {})


def _refused(lines: Sequence[Line], items: Sequence[_Item]) -> Iterator[tuple[int, Rejection]]:
    for place, (line, item) in enumerate(zip(lines, items, strict=True)):
        (told,) = item.values()
        if "error" in told:  # a document to delete that is not there has status 404 and no error
            yield place, Rejection(line.id, told["status"], reason_of(told["error"]))


def _parsed(text: str) -> dict[str, Any]:
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}  # a page of a proxy
    return answer if isinstance(answer, dict) else {}


def _seconds(header: str) -> float:
    return float(header) if header.isdecimal() else 0.0


MAY_PASS = frozenset({429, 500, 502, 503, 504})  # statuses, of a request or of one document
FULL = "read-only-allow-delete"  # in the reason when the disk is full
_WRONG, _TOO_LARGE = 400, 413
_BACK_OFF = wait_random_exponential(multiplier=0.5, max=15.0)
_LONGEST_PAUSE = 60.0  # seconds, whatever a Retry-After says
_Pieces: TypeAlias = list[list[Line]]


class BusyError(RunError):
    """The server takes no documents at the moment; it asks to wait `pause` seconds."""

    def __init__(self, index: str, status: int, reason: str, pause: float) -> None:
        """Say what the server said."""
        hint = " Free disk space: the server then opens the index by itself." if FULL in reason else ""
        super().__init__(f"{index} takes no documents: {status}, {reason.rstrip('.;')}.{hint}")
        self.pause = min(pause, _LONGEST_PAUSE)


@dataclass
class Delivered:
    """How a chunk fared: what was rejected, requests sent, and how many of them had to be followed by another."""

    rejected: list[Rejection] = field(default_factory=list)
    requests: int = 0
    repeated: int = 0


class Delivery:
    """Cuts operations into chunks and delivers them; several threads may deliver at once.

    Attributes:
        stopped: set it, and no thread sends or waits any longer.
    """

    def __init__(self, client: OpenSearch, index: str, alias: str, chunk_bytes: int, patience: float) -> None:
        """Deliver to an index by an alias, in requests of at most `chunk_bytes`, each tried for `patience` seconds."""
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
        """Yield the operations in chunks of at most the limit, a single larger document alone."""
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
        """Send a chunk, again and in halves where needed, until each operation is done or rejected.

        Raises:
            UnreachableError, BusyError: a piece of it was not taken in time.
            UsageError: certificate, credentials or rights are refused.
            RunError: the index is refused, whatever the document; or the delivery was stopped.
        """
        pieces, delivered = [chunk], Delivered()  # the piece that is next stands last
        while pieces:
            self._retrying(self._send, pieces, delivered)
        return delivered

    def _send(self, pieces: _Pieces, delivered: Delivered) -> None:
        """Send the next piece; put back what has to be sent again, and raise when that has to wait."""
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
            self._sort_out(piece, reply, pieces, delivered)
        elif reply.status in MAY_PASS:
            _put_back(pieces, piece, delivered)
            raise BusyError(self._index, reply.status, reply.reason, reply.pause)
        else:
            self._refused(piece, reply, pieces, delivered)

    def _refused(self, piece: list[Line], reply: Reply, pieces: _Pieces, delivered: Delivered) -> None:
        """Find what makes a request too large or wrong, as one id that is too long does."""
        if reply.status not in (_WRONG, _TOO_LARGE):
            raise RunError(f"cannot load {self._index}: {reply.reason}")
        if len(piece) == 1:
            delivered.rejected.append(Rejection(piece[0].id, reply.status, reply.reason))
            return
        if reply.status == _TOO_LARGE:
            self._limit = min(self._limit, sum(len(line.data) for line in piece) // 2)
        _put_back(pieces, piece, delivered)

    def _sort_out(self, piece: list[Line], reply: Reply, pieces: _Pieces, delivered: Delivered) -> None:
        """Keep what the server rejects for good, and put back what it may take later."""
        for refused in reply.refused.values():
            if refused.status != _WRONG and refused.status not in MAY_PASS:
                raise RunError(f"cannot load {self._index}: {refused.reason}")
        delivered.rejected += [refused for refused in reply.refused.values() if refused.status == _WRONG]
        later = {place: refused for place, refused in reply.refused.items() if refused.status in MAY_PASS}
        if later:
            pieces.append([piece[place] for place in later])
            delivered.repeated += 1
            first = next(iter(later.values()))
            raise BusyError(self._index, first.status, first.reason, reply.pause)


def _put_back(pieces: _Pieces, piece: list[Line], delivered: Delivered) -> None:
    """Halve the piece: a smaller request may pass where this one was too much."""
    middle = len(piece) // 2
    pieces.extend(half for half in (piece[middle:], piece[:middle]) if half)
    delivered.repeated += 1


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return max(_BACK_OFF(state), error.pause if isinstance(error, BusyError) else 0.0)
