"""The demo runs all steps in one command, with the packaged vision-language model."""

from helpers.workspace import Workspace


def test_the_demo_uses_the_packaged_model_and_its_tables_can_be_published_to_a_server(
    workspace: Workspace, opensearch_url: str, own_prefix: str
) -> None:
    output = workspace.vlm4rec("demo")
    assert "The photos were described by the captioner tiny" in output
    captioners = "SELECT DISTINCT captioner LIKE 'tiny@%' FROM captions.item_captions WHERE status = 'ok'"
    assert workspace.query(captioners) == [(True,)]
    hits = workspace.json("search", "--text", "striped bag")["hits"]
    assert "stripes" in dict(workspace.query("SELECT item_id, caption FROM search.item_documents"))[hits[0]["item_id"]]
    assert [hit["category"] for hit in hits].count("bags") >= 8
    workspace.settings["VLM4REC_INDEX_PREFIX"] = own_prefix
    release = workspace.json("index", "--url", opensearch_url)["release"]
    for query in (("--user", "u021"), ("--text", "striped bag")):
        answer = workspace.json("search", *query, "--url", opensearch_url)
        assert (answer["release"], len(answer["hits"])) == (release, 10)
