"""Sends the requests of a search over the pooled connection, serialised by orjson, and can record them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.connection import (
    connection_errors,
    describe_error,
    describe_refusal,
    server_errors,
)
from vlm4rec_search.search.backend import ReleaseGoneError, SentRequest

_JSON = {"content-type": "application/json"}
_LINES = {"content-type": "application/x-ndjson"}
_GONE = "index_not_found_exception"
# The sort values are score and item id. Without the status, an answer without hits would be missing from the list.
_SORTED = "filter_path=responses.status,responses.error,responses.hits.hits.sort"
_FUSED = "filter_path=hits.hits._score,hits.hits.fields"

Hits = list[tuple[float, str]]  # score and item id, best first


@dataclass(frozen=True)
class Sender:
    """Sends requests through a client of `connect`, and records them in `sent` where that is given."""

    client: OpenSearch
    sent: list[SentRequest] | None = None

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
        answer = self.send(path, orjson.dumps({"ids": list(dict.fromkeys(ids))}), _JSON)
        for document in answer["docs"]:
            _check(document)
        return [document for document in answer["docs"] if document["found"]]

    def hits(self, index: str, bodies: Sequence[bytes]) -> list[Hits]:
        """Return score and item id of the hits of several searches.

        Args:
            index: its name.
            bodies: from `serialise`; the sort keys of each are score and item id.
        """
        if not bodies:
            return []
        lines = b"".join(b"{}\n" + body + b"\n" for body in bodies)
        answers = self.send(f"/{quote(index)}/_msearch?{_SORTED}", lines, _LINES)["responses"]
        for answer in answers:
            _check(answer)
        return [[hit["sort"] for hit in answer.get("hits", {}).get("hits", ())] for answer in answers]

    def fused(self, index: str, body: Mapping[str, Any]) -> Hits:
        """Return score and item id of the hits of one search that returns the item id as a doc value."""
        answer = self.send(f"/{quote(index)}/_search?{_FUSED}", serialise(body), _JSON)
        return [(hit["_score"], hit["fields"]["item_id"][0]) for hit in answer.get("hits", {}).get("hits", ())]

    def search(self, index: str, body: Mapping[str, Any], parameters: str = "") -> list[dict[str, Any]]:
        """Return the hits of one search as the server writes them."""
        answer = self.send(f"/{quote(index)}/_search{parameters}", serialise(body), _JSON)
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits

    def send(self, path: str, content: bytes, headers: Mapping[str, str]) -> Any:
        """Post a request and return the answer.

        Raises:
            ReleaseGoneError: an index of the release was deleted.
            RunError: the server does not answer, or refuses the request.
        """
        if self.sent is not None:
            self.sent.append(SentRequest("POST", path, content.decode()))
        connection = self.client.transport.get_connection()
        with server_errors(), connection_errors(f"{connection.host}{connection.url_prefix}"):
            try:
                _, _, text = connection.perform_request("POST", path, None, content, headers=headers)
            except exceptions.NotFoundError as error:
                raise ReleaseGoneError(f"the release is no longer there: {describe_refusal(error)}") from None
            return orjson.loads(text)


def serialise(body: Mapping[str, Any]) -> bytes:
    """Return a request body as JSON; arrays become lists of numbers."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _check(answer: Mapping[str, Any]) -> None:
    error = answer.get("error")
    if error:
        gone = error.get("type") == _GONE
        problem = "the release is no longer there" if gone else "the server refuses"
        raise (ReleaseGoneError if gone else RunError)(f"{problem}: {describe_error(error)}")
