"""Sends the requests of a search over the pooled connection, serialised by orjson, and can record them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from opensearchpy import OpenSearch, exceptions
from urllib3 import Timeout

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.connection import (
    TRANSIENT_STATUSES,
    connection_errors,
    describe_error,
    describe_refusal,
    server_errors,
)
from vlm4rec_search.indexes.opensearch.reads import PartlyAnsweredError, Reads
from vlm4rec_search.search.backend import ReleaseGoneError, SentRequest, UnavailableError

_JSON = {"content-type": "application/json"}
_LINES = {"content-type": "application/x-ndjson"}
DFS = "dfs_query_then_fetch"
"""The type of a search that first asks all shards how frequent the words are."""
_GONE = "index_not_found_exception"
# The sort values are score and item id. Without the status, an answer without hits would be missing from the list.
_SORTED = "filter_path=responses.status,responses.error,responses.took,responses.hits.hits.sort"
_FUSED = "filter_path=hits.hits._score,hits.hits.fields"

Hits = list[tuple[float, str]]  # score and item id, best first


class Searched(NamedTuple):
    """What the server found in one search, and the seconds that it took."""

    hits: Hits
    seconds: float


@dataclass(frozen=True)
class Sender:
    """Sends requests through a client of `connect`.

    Attributes:
        client: the client.
        sent: records the requests.
        reads: time-outs and repetitions; without it each request is sent once, with the time-out of the client.
        is_last: whether no other release can be opened, so that a deleted index counts as one that does not answer.
    """

    client: OpenSearch
    sent: list[SentRequest] | None = None
    reads: Reads | None = None
    is_last: bool = False

    def within(self, part: float, repeats: bool = True) -> "Sender":
        """Return a sender that takes at most a part (0 to 1) of the time that is left."""
        return self if self.reads is None else replace(self, reads=self.reads.share(part, repeats))

    def documents(self, index: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return fields of documents by id, in the order of the ids; ids that the index does not have are left out."""
        documents = self._mget(index, ids, f"_source_includes={quote(','.join(fields))}")
        return {document["_id"]: document["_source"] for document in documents}

    def stored(self, index: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Sequence[Any]]]:
        """Return the values of stored fields by id; they are stored beside the source and faster to read than it."""
        documents = self._mget(index, ids, f"_source=false&stored_fields={quote(','.join(fields))}")
        return {document["_id"]: document.get("fields", {}) for document in documents}

    def _mget(self, index: str, ids: Sequence[str], fields: str) -> list[dict[str, Any]]:
        if not ids:
            return []
        # Not in real time: a document that was deleted since the last refresh is still in the hits of a search.
        path = f"/{quote(index)}/_mget?realtime=false&{fields}"
        answer = self.send(path, orjson.dumps({"ids": list(dict.fromkeys(ids))}), _JSON, "docs")
        return [document for document in answer["docs"] if document["found"]]

    def hits(self, index: str, bodies: Sequence[bytes]) -> list[Searched | None]:
        """Return what several searches found, None for a search that the server failed to answer.

        Args:
            index: its name.
            bodies: from `serialise_search`; the sort keys of each are score and item id.

        Raises:
            UnavailableError: the server answered none of them.
        """
        if not bodies:
            return []
        lines = b"".join(body + b"\n" for body in bodies)
        try:
            answer = self.send(f"/{quote(index)}/_msearch?{_SORTED}", lines, _LINES, "responses", some_are_enough=True)
        except PartlyAnsweredError as error:
            answer = error.answer
        return [
            None
            if each.get("error")
            else Searched([hit["sort"] for hit in each.get("hits", {}).get("hits", ())], each.get("took", 0) / 1000.0)
            for each in answer["responses"]
        ]

    def fused(self, index: str, body: Mapping[str, Any]) -> Hits:
        """Return score and item id of the hits of one search that returns the item id as a doc value."""
        answer = self.send(f"/{quote(index)}/_search?{_FUSED}", serialise(body), _JSON)
        return [(hit["_score"], hit["fields"]["item_id"][0]) for hit in answer.get("hits", {}).get("hits", ())]

    def search(self, index: str, body: Mapping[str, Any], parameters: str = "") -> list[dict[str, Any]]:
        """Return the hits of one search as the server writes them."""
        answer = self.send(f"/{quote(index)}/_search{parameters}", serialise(body), _JSON)
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits

    def values(self, index: str, field: str, most: int) -> list[str]:
        """Return the most frequent values of a keyword field."""
        body = {"size": 0, "aggs": {"values": {"terms": {"field": field, "size": most}}}}
        answer = self.send(f"/{quote(index)}/_search", serialise(body), _JSON)
        return [bucket["key"] for bucket in answer["aggregations"]["values"]["buckets"]]

    def send(
        self,
        path: str,
        content: bytes,
        headers: Mapping[str, str],
        parts: str | None = None,
        some_are_enough: bool = False,
    ) -> Any:
        """Post a request that reads, and return the answer.

        Args:
            path: with parameters.
            content: the body.
            headers: of the body.
            parts: name of the list of answers in the answer, each of which may have failed.
            some_are_enough: raise `PartlyAnsweredError` where some of them fail again and again.

        Raises:
            ReleaseGoneError: an index of the release was deleted, unless the sender is the last.
            PartlyAnsweredError: some of the parts failed, and the caller can use the others.
            UnavailableError: the server does not answer, or not in time.
            RunError: it refuses the request.
        """
        if self.sent is not None:
            self.sent.append(SentRequest("POST", path, content.decode()))
        connection = self.client.transport.get_connection()
        partly: list[PartlyAnsweredError] = []

        def read(timeout: Timeout | None) -> Any:
            with connection_errors(f"{connection.host}{connection.url_prefix}"):
                try:
                    _, _, text = connection.perform_request("POST", path, None, content, timeout, headers=headers)
                except exceptions.NotFoundError as error:
                    raise ReleaseGoneError(f"the release is no longer there: {describe_refusal(error)}") from None
                answer = orjson.loads(text)
            failures = [failure for each in answer[parts] if (failure := _failure(each))] if parts else []
            if some_are_enough and 0 < len(failures) < len(answer[str(parts)]):
                partly.append(PartlyAnsweredError(str(failures[0]), answer))
                raise partly[-1]
            if failures:
                raise failures[0]
            return answer

        with server_errors():
            try:
                return read(None) if self.reads is None else self.reads.until_answered(read)
            except UnavailableError as error:  # a repetition may have had no answer at all
                raise partly[-1] if partly else error from None
            except ReleaseGoneError as error:
                raise UnavailableError(str(error)) if self.is_last else error from None


def serialise(body: Mapping[str, Any]) -> bytes:
    """Return a request body as JSON; arrays become lists of numbers."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def serialise_search(body: Mapping[str, Any], counted_together: bool = False) -> bytes:
    """Return the header and the body of a search as two lines of JSON.

    Args:
        body: the search.
        counted_together: whether the scores of words follow from the frequencies in all shards, not in each alone.
    """
    header = {"search_type": DFS} if counted_together else {}
    return orjson.dumps(header) + b"\n" + serialise(body)


def _failure(answer: Mapping[str, Any]) -> UnavailableError | None:
    """Return why a part of an answer is missing for now, None where it is there.

    Raises:
        ReleaseGoneError: the index was deleted.
        RunError: the server refuses the part for good.
    """
    error = answer.get("error")
    if not error:
        return None
    if error.get("type") == _GONE:
        raise ReleaseGoneError(f"the release is no longer there: {describe_error(error)}")
    message = f"the server refuses: {describe_error(error)}"
    # A document that cannot be read has no status: its shard is not there now.
    if answer.get("status", 503) in TRANSIENT_STATUSES:
        return UnavailableError(message)
    raise RunError(message)
