"""What a release on a server has to show before the aliases may name it."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import orjson
from opensearchpy import OpenSearch

from vlm4rec_search.common.analyzer import analyze
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.checks import run_smoke_searches
from vlm4rec_search.indexes.opensearch.aliases import Catalogue
from vlm4rec_search.indexes.opensearch.backend import OpenSearchIndex
from vlm4rec_search.indexes.opensearch.connection import reason_of
from vlm4rec_search.indexes.opensearch.documents import read_bodies, read_hashes
from vlm4rec_search.indexes.opensearch.mapping import ID_COLUMNS, Body, Kind

LOWEST_RECALL = 0.95
EF_SEARCH = (200, 400, 800, 1_600)  # tried in this order
COPYING = 60.0  # seconds
_TOP = 10
_SAMPLE = 50
_LONGEST_SEEN = 1_000
_TOLERANCE = 1e-5
_COMPARE = """
SELECT count(*) FILTER (found.id IS NULL), count(*) FILTER (outgoing.{id} IS NULL),
    count(*) FILTER (found.id = outgoing.{id} AND found.body_hash IS DISTINCT FROM outgoing.body_hash),
    (SELECT count(*) FROM found) - (SELECT count(DISTINCT id) FROM found)
FROM outgoing_{kind} AS outgoing FULL JOIN found ON found.id = outgoing.{id}
"""
_FAULTS = ("are missing", "are too many", "are not what was sent", "are there twice")
_PROFILES = """
SELECT vector, seen FROM outgoing_profiles WHERE vector IS NOT NULL AND len(seen) <= $longest
ORDER BY hash(user_id) LIMIT $sample
"""
_ITEMS = "SELECT vector, [item_id] FROM outgoing_items ORDER BY hash(item_id) LIMIT $sample"


def verify_documents(client: OpenSearch, connection: duckdb.DuckDBPyConnection, kind: Kind, index: str) -> int:
    """Compare every id and hash of an index with the outgoing documents, and some documents sign by sign.

    Returns:
        How many documents the index holds.

    Raises:
        RunError: documents are missing, too many, or others.
    """
    read_hashes(client, index, connection, "found")
    counts = connection.execute(_COMPARE.format(kind=kind, id=ID_COLUMNS[kind])).fetchone() or ()
    for count, fault in zip(counts, _FAULTS, strict=True):
        if count:
            raise RunError(f"the release was not published: {count:,} documents of {index} {fault}")
    _compare_sample(client, connection, kind, index)
    return len(connection.table("found"))


def verify_recall(client: OpenSearch, connection: duckdb.DuckDBPyConnection, index: str) -> int:
    """Compare approximate with exact neighbours of profile vectors, what was seen left out.

    Returns:
        The `ef_search` with which the mean recall of the ten nearest is at least `LOWEST_RECALL`.

    Raises:
        RunError: there is none.
    """
    parameters = {"longest": _LONGEST_SEEN, "sample": _SAMPLE}
    sample = connection.execute(_PROFILES, parameters).fetchall()
    sample = sample or connection.execute(_ITEMS, {"sample": _SAMPLE}).fetchall()
    exact = _best(client, index, [_exact(vector, _unseen(seen)) for vector, seen in sample])
    recall = 0.0
    for ef_search in EF_SEARCH:
        near = _best(client, index, [_near(vector, seen, ef_search) for vector, seen in sample])
        # by the whole vectors: the score of a quantized one may be too high
        pairs = zip(sample, near, strict=True)
        near = _best(client, index, [_exact(vector, _among(found)) for (vector, _), found in pairs])
        recall = float(np.mean([_share(found, best) for found, best in zip(near, exact, strict=True)]))
        if recall >= LOWEST_RECALL:
            return ef_search
    raise RunError(
        f"the release was not published: of the {_TOP} nearest items the approximate search of {index} finds"
        f" {recall:.3f}, less than {LOWEST_RECALL}"
    )


def verify_searches(catalogue: Catalogue, connection: duckdb.DuckDBPyConnection, release: str) -> None:
    """Search as everybody will, once for a stranger, a shopper and a text.

    Raises:
        RunError: a search fails, finds nothing, or has a negative score.
    """
    users = connection.execute("SELECT user_id FROM outgoing_profiles LIMIT 1").fetchall()
    titles = connection.execute("SELECT title FROM outgoing_items ORDER BY item_id LIMIT 1000").fetchall()
    text = next((title for (title,) in titles if analyze(title)), None)  # one of stop words finds nothing
    run_smoke_searches(OpenSearchIndex(catalogue, release), users[0][0] if users else None, text)


def wait_for_copies(client: OpenSearch, indices: Sequence[str]) -> None:
    """Give a cluster of several nodes the time to copy the indices, so that no node alone has them when they answer.

    What takes longer goes on while they answer, and is told: a large release is not given up over it.

    Raises:
        RunError: an index cannot be searched at all.
    """
    waited = {"wait_for_status": "green", "timeout": f"{COPYING:.0f}s"}
    found = client.cluster.health(index=",".join(indices), params=waited, request_timeout=COPYING + 30, ignore=408)
    if found["status"] == "red":
        raise RunError(f"the release was not published: {' or '.join(indices)} has lost its only copy")
    if found["status"] != "green":
        missing = found["unassigned_shards"] + found["initializing_shards"]
        print(
            f"copies of the release that are not there after {COPYING:.0f} s: {missing}; until they are, a node that is"
            " lost takes it along",
            file=sys.stderr,
        )


def _compare_sample(client: OpenSearch, connection: duckdb.DuckDBPyConnection, kind: Kind, index: str) -> None:
    name = ID_COLUMNS[kind]
    chosen = f"{name} IN (SELECT {name} FROM outgoing_{kind} ORDER BY hash({name}) LIMIT {_SAMPLE})"  # noqa: S608
    expected = {name: orjson.loads(body or b"") for name, body in read_bodies(connection, kind, chosen)}
    if not expected:
        return
    answer = client.mget(index=index, body={"ids": list(expected)})
    for document in answer["docs"]:
        if "error" in document:
            raise RunError(f"the release was not published: {index} cannot be read: {reason_of(document['error'])}")
        if not same_document(document.get("_source", {}), expected[document["_id"]]):
            raise RunError(f"the release was not published: {document['_id']} of {index} is not what was sent")


def same_document(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Tell whether two documents are the same, but for what `documents` leaves out of an item's hash: its words.

    The server may write numbers of a vector otherwise.
    """
    one, other = (np.asarray(document.get("vector", []), np.float32) for document in (found, expected))
    same_vector = one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=1e-6))
    apart = {"vector": None, "words": None}
    return same_vector and {**found, **apart} == {**expected, **apart}


def _exact(vector: Sequence[float], within: Body) -> Body:
    parameters = {"field": "vector", "query_value": vector, "space_type": "cosinesimil"}
    script = {"lang": "knn", "source": "knn_score", "params": parameters}
    return {"query": {"script_score": {"query": within, "script": script}}}


def _near(vector: Sequence[float], seen: Sequence[str], ef_search: int) -> Body:
    asked = {"vector": vector, "k": EF_SEARCH[0], "filter": _unseen(seen)}
    return {"query": {"knn": {"vector": {**asked, "method_parameters": {"ef_search": ef_search}}}}}


def _unseen(seen: Sequence[str]) -> Body:
    return {"bool": {"filter": [{"match_all": {}}], "must_not": [{"terms": {"item_id": list(seen)}}]}}


def _among(items: Iterable[str]) -> Body:
    return {"bool": {"filter": [{"terms": {"item_id": list(items)}}]}}


def _share(found: Mapping[str, float], best: Mapping[str, float]) -> float:
    """Return how much of the best is found; another item that scores as well will do."""
    least = min(best.values(), default=0.0) - _TOLERANCE
    return sum(item in best or score >= least for item, score in found.items()) / len(best) if best else 1.0


def _best(client: OpenSearch, index: str, bodies: Sequence[Body]) -> list[dict[str, float]]:
    """Return the ten best hits of each request, with their scores."""
    lines = [part for body in bodies for part in ({}, {**body, "size": _TOP, "_source": False})]
    answers = client.msearch(body=lines, index=index, request_timeout=300)["responses"]
    for answer in answers:
        if "error" in answer:
            raise RunError(f"the release was not published: a search failed with {reason_of(answer['error'])}")
    found = [{hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]} for answer in answers]
    if any(score < 0 for hits in found for score in hits.values()):
        raise RunError(f"the release was not published: a search of {index} gives negative scores")
    return found
