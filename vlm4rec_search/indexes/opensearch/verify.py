"""The checks that a release on a server has to pass before the aliases may name it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import duckdb
import numpy as np
import orjson
import regex
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from vlm4rec_search.common.analyzer import Analyzer, load_analyzer
from vlm4rec_search.common.errors import RunError, Vlm4recError, one_line
from vlm4rec_search.indexes.checks import run_smoke_searches
from vlm4rec_search.indexes.opensearch.aliases import EF_SEARCH, ReleaseCatalogue
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.connection import describe_error
from vlm4rec_search.indexes.opensearch.documents import read_bodies, read_hashes
from vlm4rec_search.indexes.opensearch.mapping import ID_COLUMNS, VECTORS, Body, IndexKind
from vlm4rec_search.search.searcher import Searcher

logger = logging.getLogger(__name__)

LOWEST_RECALL, WANTED_RECALL = 0.95, 0.98
EF_SEARCHES = (EF_SEARCH, 2 * EF_SEARCH, 4 * EF_SEARCH, 8 * EF_SEARCH)  # tried in this order
COPYING = 60.0  # seconds to wait for the copies of a cluster
_TOP = 10
_SAMPLE = 50
_LONGEST_SEEN = 1_000  # items that a sampled shopper may have seen: they travel in the request
_TOLERANCE = 1e-5
_CUT_OTHERWISE = regex.compile(r"[\p{Extended_Pictographic}\p{Regional_Indicator}\p{Script=Hebrew}]")
_COMPARE = """
SELECT count(*) FILTER (indexed.id IS NULL), count(*) FILTER (outgoing.{id} IS NULL),
    count(*) FILTER (indexed.id = outgoing.{id} AND indexed.body_hash IS DISTINCT FROM outgoing.body_hash),
    (SELECT count(*) FROM indexed) - (SELECT count(DISTINCT id) FROM indexed)
FROM outgoing_{kind} AS outgoing FULL JOIN indexed ON indexed.id = outgoing.{id}
"""
_FAULTS = ("are missing", "are too many", "differ from what was sent", "are there twice")
_PROFILES = """
SELECT {field}, seen FROM outgoing_profiles WHERE {field} IS NOT NULL AND len(seen) <= $longest
ORDER BY hash(user_id) LIMIT $sample
"""
_ITEMS = "SELECT {field}, [item_id] FROM outgoing_items WHERE {field} IS NOT NULL ORDER BY hash(item_id) LIMIT $sample"


def verify_documents(client: OpenSearch, connection: duckdb.DuckDBPyConnection, kind: IndexKind, index: str) -> int:
    """Compare ids and hashes of all documents of an index with the outgoing documents, and a sample value by value.

    Returns:
        The number of documents in the index.

    Raises:
        RunError: documents are missing, too many, or different.
    """
    read_hashes(client, index, connection, "indexed")
    counts = connection.execute(_COMPARE.format(kind=kind, id=ID_COLUMNS[kind])).fetchone() or ()
    for count, fault in zip(counts, _FAULTS, strict=True):
        if count:
            raise RunError(f"the release was not published: {count:,} documents of {index} {fault}")
    _compare_sample(client, connection, kind, index)
    return len(connection.table("indexed"))


def verify_recall(client: OpenSearch, connection: duckdb.DuckDBPyConnection, index: str, fields: Iterable[str]) -> int:
    """Compare approximate with exact neighbours of profile vectors among unseen items, of learned vectors too.

    Photos are compared with those of other items.

    Args:
        client: from `connect`.
        connection: with the tables of `prepare_documents`.
        index: of the items.
        fields: of `VECTORS` that the release has.

    Returns:
        The smallest of `EF_SEARCHES` for which the mean recall of the ten nearest is at least `WANTED_RECALL`, else the
        one with the highest recall.

    Raises:
        RunError: no recall reaches `LOWEST_RECALL`.
    """
    return max(_verify_field(client, connection, index, field) for field in fields)


def _verify_field(client: OpenSearch, connection: duckdb.DuckDBPyConnection, index: str, field: str) -> int:
    parameters = {"longest": _LONGEST_SEEN, "sample": _SAMPLE}
    of_profiles = [] if field == "photo" else connection.execute(_PROFILES.format(field=field), parameters).fetchall()
    sample = of_profiles or connection.execute(_ITEMS.format(field=field), {"sample": _SAMPLE}).fetchall()
    if not sample:  # no item has such a vector
        return EF_SEARCHES[0]
    exact = _best(client, index, [_exact(field, vector, _unseen(seen)) for vector, seen in sample])
    recalls: dict[int, float] = {}
    for ef_search in EF_SEARCHES:
        near = _best(client, index, [_near(field, vector, seen, ef_search) for vector, seen in sample])
        # scored again with the full vectors: the score of a quantized vector may be too high
        pairs = zip(sample, near, strict=True)
        near = _best(client, index, [_exact(field, vector, _among(hits)) for (vector, _), hits in pairs])
        recalls[ef_search] = float(np.mean([_recall(hits, best) for hits, best in zip(near, exact, strict=True)]))
        if recalls[ef_search] >= WANTED_RECALL:
            return ef_search
    best_of_all = max(recalls, key=recalls.__getitem__)
    found = f"of the {_TOP} nearest items by {field} the approximate search of {index} finds {recalls[best_of_all]:.3f}"
    if recalls[best_of_all] < LOWEST_RECALL:
        raise RunError(f"the release was not published: {found}, less than {LOWEST_RECALL}")
    logger.warning("%s with ef_search %d, less than %s", found, best_of_all, WANTED_RECALL)
    return best_of_all


def verify_searches(catalogue: ReleaseCatalogue, connection: duckdb.DuckDBPyConnection, release: str) -> None:
    """Compare the words that the server makes of titles with ours; search for an unknown user, a known user and a text.

    Raises:
        RunError: the words differ, or a search fails, finds nothing, or has a negative score.
    """
    backend = OpenSearchBackend(catalogue, release)
    analyzer = load_analyzer(backend.release.analyzer)
    users = connection.execute("SELECT user_id FROM outgoing_profiles LIMIT 1").fetchall()
    titles = connection.execute("SELECT title FROM outgoing_items ORDER BY item_id LIMIT 1000").fetchall()
    _compare_words(catalogue, release, analyzer, [title for (title,) in titles[:_SAMPLE]])
    text = next((title for (title,) in titles if analyzer.analyze(title)), None)
    run_smoke_searches(Searcher(backend), users[0][0] if users else None, text)


def _compare_words(catalogue: ReleaseCatalogue, release: str, analyzer: Analyzer, titles: Sequence[str]) -> None:
    """Refuse a server whose stemmer is of another version than ours: a search would not find what it should.

    Titles with emoji or Hebrew letters are left out, since a server cuts some of them into other words.
    """
    index = catalogue.index("items", release)
    for title in titles:
        if _CUT_OTHERWISE.search(title):
            continue
        answer = catalogue.client.indices.analyze(index=index, body={"field": "title", "text": title})
        made = [token["token"] for token in answer["tokens"]]
        if made != analyzer.analyze(title):
            raise RunError(
                f"the release was not published: the server makes the words {made} of the title {title!r}, not"
                f" {analyzer.analyze(title)}; set VLM4REC_LANGUAGE to plain"
            )


def wait_for_copies(client: OpenSearch, indices: Sequence[str]) -> None:
    """Give a cluster of several nodes time to copy the indices, so that losing one node loses no index.

    Copies that take longer are made while the release is live; a warning says so and why.

    Raises:
        RunError: an index cannot be searched at all.
    """
    waited = {"wait_for_status": "green", "timeout": f"{COPYING:.0f}s", "level": "shards"}
    health = client.cluster.health(index=",".join(indices), params=waited, request_timeout=COPYING + 30, ignore=408)
    if health["status"] == "red":
        raise RunError(f"the release was not published: {' or '.join(indices)} has lost its only copy")
    if health["status"] != "green":
        logger.warning(
            "after %.0f s the cluster lacks %d copies of the release; until it has them, losing a node may lose it%s",
            COPYING,
            health["unassigned_shards"] + health["initializing_shards"],
            _explain_missing_copies(client, health["indices"]),
        )


def _explain_missing_copies(client: OpenSearch, indices: Mapping[str, Any]) -> str:
    """Return what the server says against the first missing copy; nothing where it may not be asked."""
    missing = (
        {"index": index, "shard": int(shard), "primary": False}
        for index, health in indices.items()
        for shard, counts in health["shards"].items()
        if counts["unassigned_shards"]
    )
    first = next(missing, None)
    if first is None:
        return ""
    with suppress(TransportError, Vlm4recError):  # it may be forbidden or too slow, and the copy may be there by now
        nodes = client.cluster.allocation_explain(body=first).get("node_allocation_decisions", ())
        deciders = [each for node in nodes for each in node.get("deciders", ()) if each["decision"] == "NO"]
        deciders.sort(key=lambda decider: decider["decider"] == "same_shard")  # some node always has the shard itself
        if deciders:
            return f": {one_line(deciders[0]['explanation']).partition(' [[')[0]}"  # the rest describes the shard
    return ""


def _compare_sample(client: OpenSearch, connection: duckdb.DuckDBPyConnection, kind: IndexKind, index: str) -> None:
    name = ID_COLUMNS[kind]
    chosen = f"{name} IN (SELECT {name} FROM outgoing_{kind} ORDER BY hash({name}) LIMIT {_SAMPLE})"  # noqa: S608
    expected = {name: orjson.loads(body or b"") for name, body in read_bodies(connection, kind, chosen)}
    if not expected:
        return
    answer = client.mget(index=index, body={"ids": list(expected)})
    for document in answer["docs"]:
        if "error" in document:
            raise RunError(
                f"the release was not published: {index} cannot be read: {describe_error(document['error'])}"
            )
        if not are_equal(document.get("_source", {}), expected[document["_id"]]):
            raise RunError(f"the release was not published: {document['_id']} of {index} differs from what was sent")


def are_equal(indexed: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Return whether two documents are equal, apart from their words, which the hash of an item leaves out too.

    The server may write the numbers of a vector with other decimals.
    """
    same_vectors = all(_are_near(indexed.get(field, []), expected.get(field, [])) for field in VECTORS)
    ignored = {**dict.fromkeys(VECTORS), "words": None}
    return same_vectors and {**indexed, **ignored} == {**expected, **ignored}


def _are_near(indexed: Sequence[float], expected: Sequence[float]) -> bool:
    actual, wanted = np.asarray(indexed, np.float32), np.asarray(expected, np.float32)
    return actual.shape == wanted.shape and bool(np.allclose(actual, wanted, rtol=0, atol=1e-6))


def _exact(field: str, vector: Sequence[float], within: Body) -> Body:
    parameters = {"field": field, "query_value": vector, "space_type": "cosinesimil"}
    script = {"lang": "knn", "source": "knn_score", "params": parameters}
    has_field = {"bool": {"filter": [within, {"exists": {"field": field}}]}}  # an item may lack a learned vector
    return {"query": {"script_score": {"query": has_field, "script": script}}}


def _near(field: str, vector: Sequence[float], seen: Sequence[str], ef_search: int) -> Body:
    parameters = {"ef_search": ef_search}
    query = {"vector": vector, "k": EF_SEARCH, "filter": _unseen(seen), "method_parameters": parameters}
    return {"query": {"knn": {field: query}}}


def _unseen(seen: Sequence[str]) -> Body:
    return {"bool": {"filter": [{"match_all": {}}], "must_not": [{"terms": {"item_id": list(seen)}}]}}


def _among(items: Iterable[str]) -> Body:
    return {"bool": {"filter": [{"terms": {"item_id": list(items)}}]}}


def _recall(hits: Mapping[str, float], best: Mapping[str, float]) -> float:
    """Return the share of the best items among the hits; an item with an equally good score counts as one of them."""
    least = min(best.values(), default=0.0) - _TOLERANCE
    return sum(item in best or score >= least for item, score in hits.items()) / len(best) if best else 1.0


def _best(client: OpenSearch, index: str, bodies: Sequence[Body]) -> list[dict[str, float]]:
    """Return the ten best hits of each request, with their scores."""
    lines = [line for body in bodies for line in ({}, {**body, "size": _TOP, "_source": False})]
    answers = client.msearch(body=lines, index=index, request_timeout=300)["responses"]
    for answer in answers:
        if "error" in answer:
            raise RunError(f"the release was not published: a search failed with {describe_error(answer['error'])}")
    scores = [{hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]} for answer in answers]
    if any(score < 0 for hits in scores for score in hits.values()):
        raise RunError(f"the release was not published: a search of {index} gives negative scores")
    return scores
