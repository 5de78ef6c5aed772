"""The demo: the whole job in one command, by the real small model."""

from helpers.workspace import Workspace


def test_the_demo_captions_with_the_small_model_and_its_tables_go_to_a_server(
    workspace: Workspace, opensearch_url: str, own_prefix: str
) -> None:
    told = workspace.vlm4rec("demo")
    assert "The photos were described by tiny" in told
    captioners = "SELECT DISTINCT captioner LIKE 'tiny@%' FROM captions.item_captions WHERE status = 'ok'"
    assert workspace.query(captioners) == [(True,)]
    assert workspace.json("search", "--text", "striped bag")["hits"]
    workspace.settings["VLM4REC_INDEX_PREFIX"] = own_prefix
    release = workspace.json("index", "--url", opensearch_url)["release"]
    for asked in (("--user", "u021"), ("--text", "striped bag")):
        found = workspace.json("search", *asked, "--url", opensearch_url)
        assert (found["release"], len(found["hits"])) == (release, 10)
