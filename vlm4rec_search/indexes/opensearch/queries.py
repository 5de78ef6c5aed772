"""What a server is asked for the legs of a search; every text of a user is a value, never query syntax."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from vlm4rec_search.common.bm25 import BOOSTS
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.opensearch.mapping import Body, field_name
from vlm4rec_search.search.filters import Filter
from vlm4rec_search.search.model import Leg, Request, Word

INLINE = 1_000  # ids that a request spells out; more are looked up in the profile by the server
TERMS = 65_536  # most values of one `terms` clause, inline or looked up
CLAUSES = 1_024  # most clauses of one search
FILTERING = 24  # clauses of a leg that are left for the filter
NOTHING: Body = {"match_none": {}}
EVERYTHING: Body = {"match_all": {}}
_POPULARITY: Body = {"popularity": {"order": "desc", "missing": 0}}  # by hand a document may be written without


def allowed(request: Request, profiles: str) -> Body:
    """Return the parts of a `bool` query that keep what conditions and history allow, none where that is everything.

    Args:
        request: its user is known to the release, so that a look-up cannot miss (it would exclude nothing).
        profiles: the index with the profiles.
    """
    parts = {
        "filter": [_condition(condition) for condition in request.conditions],
        "must_not": list(_left_out(request, profiles)),
    }
    return {name: clauses for name, clauses in parts.items() if clauses}


def leg_body(leg: Leg, within: Body, depth: int, ef_search: int) -> Body:
    """Return the search for the best `depth` documents of a leg, whose sort values are score and item id.

    Of listed items all that are allowed are asked for, without a score: the list has it.

    Args:
        leg: one of the request.
        within: what `allowed` returns.
        depth: how many hits.
        ef_search: of the k-NN search, the least; depth where that is more.
    """
    everybody = leg.kind == "popularity" and not leg.items
    if leg.items:  # their scores are known here
        listed = {"terms": {"item_id": list(leg.items)}}
        size, query = len(leg.items), {"bool": {**within, "filter": [*within.get("filter", ()), listed]}}
    elif everybody:
        size, query = depth, {"bool": within or {"filter": [EVERYTHING]}}
    else:
        size, query = depth, leg_query(leg, within, depth, ef_search)
    return {
        "size": size,
        "query": query,
        "sort": [_POPULARITY if everybody else "_score", "item_id"],
        "stored_fields": "_none_",  # the sort has all that is needed: no document is read
        "track_total_hits": False,
    }


def leg_query(leg: Leg, within: Body, depth: int, ef_search: int) -> Body:
    """Return the query that scores the documents of a leg of a vector, by (1 + cosine) / 2, or of words.

    Raises:
        UsageError: the leg has more words than a server takes.
    """
    if leg.vector is not None:
        asked = {"vector": leg.vector, "k": depth, "method_parameters": {"ef_search": max(ef_search, depth)}}
        return {"knn": {"vector": {**asked, "filter": {"bool": within}} if within else asked}}
    return any_of([clause for term, word in leg.words.items() for clause in word_clauses(term, word)], within)


def words_body(legs: Sequence[Leg], item_ids: Sequence[str]) -> Body:
    """Return the search that tells what each word of the lexical legs adds to the scores of some items.

    A hit's `matched_queries`, asked for with their scores, are by `<place of the leg> <term>`.
    """
    named = [
        {"bool": {"_name": f"{place} {term}", "should": list(word_clauses(term, word))}}
        for place, leg in enumerate(legs)
        for term, word in leg.words.items()
    ]
    within = {"filter": [{"terms": {"item_id": list(item_ids)}}]}
    return {"size": len(item_ids), "_source": False, "query": any_of(named, within), "track_total_hits": False}


def word_clauses(term: str, word: Word) -> Iterator[Body]:
    """Yield the clauses that add up to weight x sum over the fields of boost x BM25; the term is analyzed already."""
    if word.weight > 0.0:
        for field, boost in BOOSTS.items():
            yield {"term": {field: {"value": term, "boost": word.weight * boost}}}


def any_of(clauses: Sequence[Body], within: Body) -> Body:
    """Return the query whose score is the sum of the clauses that hold, at least one.

    Raises:
        UsageError: they are more than a server takes.
    """
    if len(clauses) > CLAUSES - FILTERING:
        raise UsageError(
            f"the search has {len(clauses):,} words and items to look for, a server takes {CLAUSES - FILTERING}: use a"
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


def _left_out(request: Request, profiles: str) -> Iterator[Body]:
    seen = request.user.seen if request.user else ()
    looked_up = request.user is not None and INLINE < len(seen) <= TERMS
    if request.user and looked_up:
        yield {"terms": {"item_id": {"index": profiles, "id": request.user.user_id, "path": "seen"}}}
    ids = [*request.without, *(() if looked_up else seen)]
    for start in range(0, len(ids), TERMS):
        yield {"terms": {"item_id": ids[start : start + TERMS]}}
