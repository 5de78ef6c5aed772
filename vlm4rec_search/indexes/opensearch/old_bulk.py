"""One `_bulk` request: what goes in, and what the server says of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import orjson
import pyarrow as pa
from opensearchpy import OpenSearch

from vlm4rec_search.indexes.opensearch.connection import one_line, reason_of

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
        for row, field in enumerate(fields):
            if vectors[row].is_valid:
                field[vector_column] = vectors[row].values.to_numpy()
            field |= {name: orjson.Fragment(field[name]) for name in json_columns if field[name] is not None}
            yield str(field[id_column]), orjson.dumps(field, option=orjson.OPT_SERIALIZE_NUMPY)


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
