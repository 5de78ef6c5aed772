"""The stored search that needs a plug-in: what it would send, as the server renders it."""

import httpx

from vlm4rec_search.opensearch import templates


def test_the_hybrid_template_names_its_pipeline_and_has_both_legs(opensearch_url: str) -> None:
    parameters = {"user": "u1", "text": "t", "vector": [1.0], "filters": [], "k": 3}
    sent = {"source": templates.sources("shop-")["hybrid"], "params": parameters}
    answer = httpx.post(f"{opensearch_url}/_render/template", json=sent, timeout=60)
    body = answer.raise_for_status().json()["template_output"]
    assert body["search_pipeline"] == "shop-vlm4rec-minmax-v1"
    assert body["query"]["hybrid"]["pagination_depth"] == "200"
    semantic, lexical = body["query"]["hybrid"]["queries"]
    unseen = {"terms": {"item_id": {"index": "shop-profiles", "id": "u1", "path": "seen"}}}
    assert semantic["knn"]["vector"]["filter"]["bool"]["must_not"] == [unseen]
    assert lexical["bool"]["must_not"] == [unseen]
