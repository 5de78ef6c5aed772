"""Search templates that are stored on the server, for services in any language, and the pipeline of the hybrid one.

Every template searches the alias of items and excludes what `user` has seen. The user's profile has to exist: a look-up
that finds nothing excludes nothing. Parameters:

- `text` and `user` are escaped and become values, never query syntax.
- `filters`: clauses that all have to hold: one such as {"term": {"facets.category": "shoes"}}, or a list of
  them. Without it nothing is filtered. `docs/contract.md` lists the fields.
- `vector` and `filters` are inserted as JSON. The service has to build them itself and must not pass on text of users.
- `depth`: the server reads so many documents of each sub-query before it fuses them; fewer are faster.
- `ef_search`: by default the value that verification found for the release that was live when the templates were
  stored. Store the templates again after a release that needs another value.

The hybrid template contains its pipeline, because the server ignores the name of a pipeline in a template. The same
pipeline is stored under a name for services that write hybrid queries themselves (`?search_pipeline=`).
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

VERSION = 1  # part of the names, so that callers of an older version are not affected
# A section runs once for each clause of a list, once for a single clause, and not at all without the parameter.
_CLAUSES = ["{{#filters}}", "{{#toJson}}.{{/toJson}}", "{{/filters}}"]
_LISTS = re.compile(r'"(\{\{#toJson\}\}\w+\{\{/toJson\}\})"')


def _parameter(name: str, default: int) -> str:
    """Return the mustache text of a number that a request may leave out."""
    return f"{{{{{name}}}}}{{{{^{name}}}}}{default}{{{{/{name}}}}}"


def _list_parameter(name: str) -> str:
    """Return the mustache text of a list; a text in its place would be inserted without quotes and escapes."""
    return f"{{{{#toJson}}}}{name}{{{{/toJson}}}}"


def template_sources(prefix: str, ef_search: int, ranking: Ranking) -> dict[str, str]:
    """Return the mustache source of the semantic, the lexical and the hybrid template.

    Args:
        prefix: of the aliases.
        ef_search: default of the k-NN search; the server uses the depth where that is more.
        ranking: default depth, and the weights of the two sub-queries.
    """
    depth = _parameter("depth", ranking.depth)
    seen = {"terms": {"item_id": {"index": f"{prefix}profiles", "id": "{{user}}", "path": "seen"}}}
    within = {"filter": [*_CLAUSES, {"match_all": {}}], "must_not": ["{{#user}}", seen, "{{/user}}"]}
    knn = {"vector": _list_parameter("vector"), "k": depth, "filter": {"bool": within}}
    method = {"method_parameters": {"ef_search": _parameter("ef_search", ef_search)}}
    semantic = {"knn": {"vector": {**knn, **method}}}
    matches = [{"match": {field: {"query": "{{text}}", "boost": boost}}} for field, boost in BOOSTS.items()]
    lexical = {"bool": {"should": matches, "minimum_should_match": 1, **within}}
    hybrid = {"hybrid": {"queries": [semantic, lexical], "pagination_depth": depth}}
    # Without its pipeline a hybrid query answers 200 with internal scores of about -9.5e9.
    search_pipeline = {"search_pipeline": _pipeline(ranking)}
    return {"semantic": _source(semantic), "lexical": _source(lexical), "hybrid": _source(hybrid, search_pipeline)}


def _full_name(prefix: str, name: str) -> str:
    return f"{prefix}vlm4rec-{name}-v{VERSION}"


def _source(query: Body, further: Body | None = None) -> str:
    body = {"size": "{{k}}{{^k}}10{{/k}}", "_source": list(SHOWN), "track_total_hits": False, "query": query}
    body |= further or {}
    text = _LISTS.sub(r"\1", orjson.dumps(body).decode())
    text = text.replace(orjson.dumps(_CLAUSES).decode()[1:-1] + ",", "{{#filters}}{{#toJson}}.{{/toJson}},{{/filters}}")
    return text.replace('"{{#user}}",', "{{#user}}").replace(',"{{/user}}"', "{{/user}}")


def install_templates(client: OpenSearch, prefix: str, ranking: Ranking) -> list[str]:
    """Store the templates; the hybrid one and its pipeline only where the server has the neural-search plug-in.

    Args:
        client: from `connect`.
        prefix: of the aliases and of the stored names.
        ranking: depth, and weights of the semantic and the lexical sub-query.

    Returns:
        The stored names, <prefix>vlm4rec-<kind>-v<VERSION>.

    Raises:
        RunError: the server refuses.
    """
    hybrid, pipeline = _full_name(prefix, "hybrid"), _full_name(prefix, "minmax")
    with server_errors():
        ef_search = live_ef_search(ReleaseCatalogue(client, prefix))
        named = {
            _full_name(prefix, kind): source for kind, source in template_sources(prefix, ef_search, ranking).items()
        }
        if native.is_installed(Sender(client)):
            client.transport.perform_request("PUT", f"/_search/pipeline/{pipeline}", body=_pipeline(ranking))
        else:
            del named[hybrid]
        for name, source in named.items():
            client.put_script(id=name, body={"script": {"lang": "mustache", "source": source}})
    return [*named, *([pipeline] if hybrid in named else [])]


def _pipeline(ranking: Ranking) -> Body:
    weights = (ranking.weights.semantic, ranking.weights.lexical)
    total = sum(weights)
    return native.pipeline([weight / total for weight in weights] if total else [0.5, 0.5])
