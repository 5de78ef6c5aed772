"""The sub-queries that a server runs for the retrievers of a search. Text of users is a value, never query syntax."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from vlm4rec_search.common.bm25 import BOOSTS
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.opensearch.mapping import Body, field_name
from vlm4rec_search.search.filters import Filter
from vlm4rec_search.search.model import Request, Retriever, Word
from vlm4rec_search.search.query import Kind

INLINE = 1_000  # seen ids that a request spells out; the server looks up more of them in the profile
TERMS = 65_536  # the most values of one `terms` clause, inline or looked up
CLAUSES = 1_024  # the most clauses of one search
FILTERING = 24  # clauses of a sub-query that are reserved for its filter
NOTHING: Body = {"match_none": {}}
EVERYTHING: Body = {"match_all": {}}
_POPULARITY: Body = {"popularity": {"order": "desc", "missing": 0}}  # a hand-written document may lack the field


def allowed(request: Request, profiles: str) -> Body:
    """Return the parts of a `bool` query that select the documents a request may return, empty for all documents.

    Args:
        request: its user is known to the release; a look-up of an unknown user would exclude nothing.
        profiles: the index of profiles.
    """
    parts = {
        "filter": [_condition(condition) for condition in request.conditions],
        "must_not": list(_excluded(request, profiles)),
    }
    return {name: clauses for name, clauses in parts.items() if clauses}


def retriever_body(retriever: Retriever, within: Body, depth: int, ef_search: int) -> Body:
    """Return the search for the best `depth` documents of a retriever; its sort values are score and item id.

    A retriever with items gets all of them that the filter allows, without scores: the retriever has the scores.

    Args:
        retriever: one of the request.
        within: from `allowed`.
        depth: the number of hits.
        ef_search: of the k-NN search, at least; `depth` where that is more.
    """
    by_popularity = retriever.kind == "popularity" and not retriever.items
    if retriever.items:
        listed = {"terms": {"item_id": list(retriever.items)}}
        size, query = len(retriever.items), {"bool": {**within, "filter": [*within.get("filter", ()), listed]}}
    elif by_popularity:
        size, query = depth, {"bool": within or {"filter": [EVERYTHING]}}
    else:
        size, query = depth, retriever_query(retriever, within, depth, ef_search)
    return {
        "size": size,
        "query": query,
        "sort": [_POPULARITY if by_popularity else "_score", "item_id"],
        "stored_fields": "_none_",  # the sort values are enough: no document is read
        "track_total_hits": False,
    }


def retriever_query(retriever: Retriever, within: Body, depth: int, ef_search: int) -> Body:
    """Return the query that scores documents by (1 + cosine) / 2 with a retriever's vector, or by its words.

    Raises:
        UsageError: the retriever has more words than a server takes.
    """
    if retriever.vector is not None:
        knn = {"vector": retriever.vector, "k": depth, "method_parameters": {"ef_search": max(ef_search, depth)}}
        return {"knn": {vector_field(retriever.kind): {**knn, "filter": {"bool": within}} if within else knn}}
    return any_of([clause for term, word in retriever.words.items() for clause in word_clauses(term, word)], within)


def vector_field(kind: Kind) -> str:
    """Return the field of the vectors that retrievers of a kind compare with."""
    return kind if kind in ("fitted", "photo") else "vector"


def words_body(retrievers: Sequence[Retriever], item_ids: Sequence[str]) -> Body:
    """Return the search that computes what each word of the lexical retrievers adds to the scores of some items.

    The keys of a hit's `matched_queries` are `<number of the retriever> <term>`.
    """
    named = [
        {"bool": {"_name": f"{number} {term}", "should": list(word_clauses(term, word))}}
        for number, retriever in enumerate(retrievers)
        for term, word in retriever.words.items()
    ]
    within = {"filter": [{"terms": {"item_id": list(item_ids)}}]}
    return {"size": len(item_ids), "_source": False, "query": any_of(named, within), "track_total_hits": False}


def word_clauses(term: str, word: Word) -> Iterator[Body]:
    """Yield the clauses whose scores sum to weight x boost x BM25 over the fields, for a term of the analyzer."""
    if word.weight > 0.0:
        for field, boost in BOOSTS.items():
            yield {"term": {field: {"value": term, "boost": word.weight * boost}}}


def any_of(clauses: Sequence[Body], within: Body) -> Body:
    """Return the query that matches at least one clause, with the sum of their scores.

    Raises:
        UsageError: there are more clauses than a server takes.
    """
    if len(clauses) > CLAUSES - FILTERING:
        raise UsageError(
            f"the search has {len(clauses):,} words and items, but a server takes {CLAUSES - FILTERING}: use a"
            " shorter text"
        )
    return {"bool": {"should": clauses, "minimum_should_match": 1, **within}} if clauses else NOTHING


def _condition(condition: Filter) -> Body:
    name = field_name(condition.field)
    if condition.values:
        return {"terms": {f"facets.{name}": condition.values}}
    lower, upper = "gt" if condition.low_open else "gte", "lt" if condition.high_open else "lte"
    bounds: Mapping[str, float] = {lower: condition.low, upper: condition.high}
    return {"range": {f"numbers.{name}": {end: bound for end, bound in bounds.items() if isfinite(bound)}}}


def _excluded(request: Request, profiles: str) -> Iterator[Body]:
    seen = request.user.seen if request.user else ()
    looked_up = request.user is not None and INLINE < len(seen) <= TERMS
    if request.user and looked_up:
        yield {"terms": {"item_id": {"index": profiles, "id": request.user.user_id, "path": "seen"}}}
    ids = [*request.without, *(() if looked_up else seen)]
    for start in range(0, len(ids), TERMS):
        yield {"terms": {"item_id": ids[start : start + TERMS]}}
