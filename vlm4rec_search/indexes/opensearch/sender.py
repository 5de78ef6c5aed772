"""Sends the requests of a search, serialised by orjson over the pooled connection, and keeps them where asked to."""

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
from vlm4rec_search.search.backend import Sent

_JSON = {"content-type": "application/json"}
_LINES = {"content-type": "application/x-ndjson"}
_GONE = "index_not_found_exception"
# a sort tells score and item id; without the status an answer with no hits would be left out of the list
_SHOWN = "filter_path=responses.status,responses.error,responses.hits.hits.sort"
_FUSED = "filter_path=hits.hits._score,hits.hits.fields"

Hits = list[tuple[float, str]]  # score and item id, best first


class ReleaseGoneError(RunError):
    """The indices of the release were deleted."""


class ItemGoneError(RunError):
    """An item was deleted between the request that found it and the one that reads it; the next search is whole."""


@dataclass(frozen=True)
class Sender:
    """Sends requests through a client of `connect`; `kept` collects those that were sent."""

    client: OpenSearch
    kept: list[Sent] | None = None

    def documents(self, index: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return the named fields of documents by id, in the order of the ids, without those that are not there."""
        found = self._mget(index, ids, f"_source_includes={quote(','.join(fields))}")
        return {document["_id"]: document["_source"] for document in found}

    def stored(self, index: str, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Sequence[Any]]]:
        """Return the same of fields that the index stores beside the source, the list of values of each: faster."""
        found = self._mget(index, ids, f"_source=false&stored_fields={quote(','.join(fields))}")
        return {document["_id"]: document.get("fields", {}) for document in found}

    def _mget(self, index: str, ids: Sequence[str], what: str) -> list[dict[str, Any]]:
        if not ids:
            return []
        # as a search sees them: a document that was deleted since the last refresh is still found by searches
        path = f"/{quote(index)}/_mget?realtime=false&{what}"
        answer = self.send(path, orjson.dumps({"ids": list(dict.fromkeys(ids))}), _JSON)
        for document in answer["docs"]:
            _check(document)
        return [document for document in answer["docs"] if document["found"]]

    def hits(self, index: str, bodies: Sequence[Mapping[str, Any]]) -> list[Hits]:
        """Return score and item id of the hits of several searches, whose last sort key is the item id."""
        if not bodies:
            return []
        lines = b"".join(b"{}\n" + orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for body in bodies)
        answers = self.send(f"/{quote(index)}/_msearch?{_SHOWN}", lines, _LINES)["responses"]
        for answer in answers:
            _check(answer)
        return [[hit["sort"] for hit in answer.get("hits", {}).get("hits", ())] for answer in answers]

    def fused(self, index: str, body: Mapping[str, Any]) -> Hits:
        """Return score and item id of the hits of one search, whose doc value the item id is."""
        content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self.send(f"/{quote(index)}/_search?{_FUSED}", content, _JSON)
        return [(hit["_score"], hit["fields"]["item_id"][0]) for hit in answer.get("hits", {}).get("hits", ())]

    def search(self, index: str, body: Mapping[str, Any], parameters: str = "") -> list[dict[str, Any]]:
        """Return the hits of one search as the server writes them."""
        content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        hits: list[dict[str, Any]] = self.send(f"/{quote(index)}/_search{parameters}", content, _JSON)["hits"]["hits"]
        return hits

    def send(self, path: str, content: bytes, headers: Mapping[str, str]) -> Any:
        """Post a request and return the answer.

        Raises:
            ReleaseGoneError: an index of the release is not there any more.
            RunError: the server does not answer, or refuses.
        """
        if self.kept is not None:
            self.kept.append(Sent("POST", path, content.decode()))
        connection = self.client.transport.get_connection()
        with server_errors(), connection_errors(f"{connection.host}{connection.url_prefix}"):
            try:
                _, _, text = connection.perform_request("POST", path, None, content, headers=headers)
            except exceptions.NotFoundError as error:
                raise ReleaseGoneError(f"the release is no longer there: {describe_refusal(error)}") from None
            return orjson.loads(text)


def _check(answer: Mapping[str, Any]) -> None:
    """Refuse the part of an answer that is an error."""
    error = answer.get("error")
    if error:
        gone = error.get("type") == _GONE
        what = "the release is no longer there" if gone else "the server refuses"
        raise (ReleaseGoneError if gone else RunError)(f"{what}: {describe_error(error)}")
