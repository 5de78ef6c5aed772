"""The stored search that needs a plug-in: what it would send, as the server renders it."""

import httpx
import pytest
from helpers.opensearch_server import forget
from helpers.server_releases import Window

from vlm4rec_search.indexes.opensearch import templates
from vlm4rec_search.search.ranking import load_ranking


def test_the_hybrid_template_has_its_pipeline_and_both_legs(opensearch_url: str) -> None:
    parameters = {"user": "u1", "text": "t", "vector": [1.0], "filters": [], "k": 3}
    sent = {"source": templates.template_sources("shop-", 400, load_ranking(None))["hybrid"], "params": parameters}
    answer = httpx.post(f"{opensearch_url}/_render/template", json=sent, timeout=60)
    body = answer.raise_for_status().json()["template_output"]
    (joined,) = body["search_pipeline"]["phase_results_processors"]
    assert joined["normalization-processor"]["combination"]["parameters"]["weights"] == pytest.approx([0.5, 0.5])
    assert body["query"]["hybrid"]["pagination_depth"] == "200"
    semantic, lexical = body["query"]["hybrid"]["queries"]
    unseen = {"terms": {"item_id": {"index": "shop-profiles", "id": "u1", "path": "seen"}}}
    assert semantic["knn"]["vector"]["method_parameters"] == {"ef_search": "400"}
    assert semantic["knn"]["vector"]["filter"]["bool"]["must_not"] == [unseen]
    assert lexical["bool"]["must_not"] == [unseen]


@pytest.mark.parametrize("asked", [None, 1600])
def test_the_semantic_template_explores_what_verification_found_to_be_enough(
    opensearch_url: str, own_prefix: str, asked: int | None
) -> None:
    window = Window(opensearch_url, own_prefix)
    index = window.catalogue.index("items", window.publish().meta.name)
    told = window.client.indices.get_mapping(index=index)[index]["mappings"]["_meta"]
    window.client.indices.put_mapping(index=index, body={"_meta": {**told, "ef_search": 800}})
    names = templates.install_templates(window.client, own_prefix, load_ranking(None))
    parameters = {"vector": [1.0, 0.0, 0.0, 0.0], "filters": [], **({"ef_search": asked} if asked else {})}
    try:
        rendered = window.client.render_search_template(body={"id": names[0], "params": parameters})
        near = rendered["template_output"]["query"]["knn"]["vector"]
        assert near["method_parameters"] == {"ef_search": str(asked or 800)}
        assert near["k"] == str(load_ranking(None).depth)
        answer = window.client.search_template(index=f"{own_prefix}items", body={"id": names[0], "params": parameters})
        assert [hit["_id"] for hit in answer["hits"]["hits"]][:3] == ["a", "b", "d"]  # cosines 1, 0.8, 0.6
    finally:
        forget(window.client, names)
