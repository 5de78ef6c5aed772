"""Search templates on the server, for services that call it from any language, and the pipeline that joins the legs.

Every template searches the alias of items and leaves out what `user` has seen, whose profile has to exist: a look-up
that misses excludes nothing. `filters` is a list of clauses, such as {"terms": {"facets.category": ["shoes"]}}, and has
to be given, if only as []. `text` and `user` are escaped and become values, never query syntax; `vector` and `filters`
are written as they are, and must be what the service itself has made: there the server would take a text for JSON. The
hybrid one has its pipeline in itself, since the server does not heed the name of one in a template; the same pipeline
is stored for services that write hybrid queries of their own, which name it in the address (`?search_pipeline=`). The
server reads `depth` documents of each leg before it joins them: a service in a hurry asks for less. `ef_search` is by
default what verification has found to be enough for the release that answered when the templates were stored: store
them again after one that needs another.
"""

import re

import orjson
from opensearchpy import OpenSearch

from vlm4rec_search.common.bm25 import BOOSTS
from vlm4rec_search.indexes.opensearch import native
from vlm4rec_search.indexes.opensearch.aliases import ReleaseCatalogue, live_ef_search
from vlm4rec_search.indexes.opensearch.connection import server_errors
from vlm4rec_search.indexes.opensearch.mapping import Body
from vlm4rec_search.indexes.opensearch.retrieved import SHOWN
from vlm4rec_search.indexes.opensearch.sender import Sender
from vlm4rec_search.search.ranking import Ranking

VERSION = 1  # of the templates: callers of an older one go on
_LISTS = re.compile(r'"(\{\{#toJson\}\}\w+\{\{/toJson\}\})"')


def _or(name: str, default: int) -> str:
    """Return what becomes a parameter, or a number where a request has none."""
    return f"{{{{{name}}}}}{{{{^{name}}}}}{default}{{{{/{name}}}}}"


def _list(name: str) -> str:
    """Return what becomes the list of a parameter; a text would be written without quotes and escapes."""
    return f"{{{{#toJson}}}}{name}{{{{/toJson}}}}"


def sources(prefix: str, ef_search: int, ranking: Ranking) -> dict[str, str]:
    """Return the source of each template, semantic, lexical and hybrid, over the aliases with a prefix.

    Args:
        prefix: of the aliases.
        ef_search: of the k-NN search, where a request does not say; the server takes the depth where that is more.
        ranking: candidates of each leg, where a request does not say, and the weights of the two kinds.
    """
    deep = _or("depth", ranking.depth)
    seen = {"terms": {"item_id": {"index": f"{prefix}profiles", "id": "{{user}}", "path": "seen"}}}
    within = {"filter": _list("filters"), "must_not": ["{{#user}}", seen, "{{/user}}"]}
    near = {"vector": _list("vector"), "k": deep, "filter": {"bool": within}}
    explored = {"method_parameters": {"ef_search": _or("ef_search", ef_search)}}
    semantic = {"knn": {"vector": {**near, **explored}}}
    matches = [{"match": {field: {"query": "{{text}}", "boost": boost}}} for field, boost in BOOSTS.items()]
    lexical = {"bool": {"should": matches, "minimum_should_match": 1, **within}}
    hybrid = {"hybrid": {"queries": [semantic, lexical], "pagination_depth": deep}}
    # without its pipeline a hybrid query answers raw sentinels of about -9.5e9 as scores, with status 200
    joined = {"search_pipeline": _pipeline(ranking)}
    return {"semantic": _source(semantic), "lexical": _source(lexical), "hybrid": _source(hybrid, joined)}


def _named(prefix: str, name: str) -> str:
    return f"{prefix}vlm4rec-{name}-v{VERSION}"


def _source(query: Body, further: Body | None = None) -> str:
    body = {"size": "{{k}}{{^k}}10{{/k}}", "_source": list(SHOWN), "track_total_hits": False, "query": query}
    body |= further or {}
    text = _LISTS.sub(r"\1", orjson.dumps(body).decode())
    return text.replace('"{{#user}}",', "{{#user}}").replace(',"{{/user}}"', "{{/user}}")


def install(client: OpenSearch, prefix: str, ranking: Ranking) -> list[str]:
    """Store the templates, and the hybrid one and its pipeline where the server can run them.

    Args:
        client: from `connect`.
        prefix: of the aliases; names begin with it.
        ranking: its depth, and its weights of the semantic and the lexical kind.

    Returns:
        The names of what is stored now, <prefix>vlm4rec-<kind>-v<VERSION>.

    Raises:
        RunError: the server refuses.
    """
    joined, pipeline = _named(prefix, "hybrid"), _named(prefix, "minmax")
    with server_errors():
        ef_search = live_ef_search(ReleaseCatalogue(client, prefix))
        named = {_named(prefix, kind): source for kind, source in sources(prefix, ef_search, ranking).items()}
        if native.is_installed(Sender(client)):
            client.transport.perform_request("PUT", f"/_search/pipeline/{pipeline}", body=_pipeline(ranking))
        else:
            del named[joined]
        for name, source in named.items():
            client.put_script(id=name, body={"script": {"lang": "mustache", "source": source}})
    return [*named, *([pipeline] if joined in named else [])]


def _pipeline(ranking: Ranking) -> Body:
    weights = (ranking.weights.semantic, ranking.weights.lexical)
    total = sum(weights)
    return native.pipeline([weight / total for weight in weights] if total else [0.5, 0.5])
