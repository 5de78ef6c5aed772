"""The demo: the whole job in one command, by the real small model."""

from conftest import Workspace


def test_the_demo_captions_with_the_small_model_and_ends_in_a_search(workspace: Workspace) -> None:
    told = workspace.vlm4rec("demo")
    assert "The photos were described by tiny" in told
    captioners = "SELECT DISTINCT captioner LIKE 'tiny@%' FROM captions.item_captions WHERE status = 'ok'"
    assert workspace.query(captioners) == [(True,)]
    assert workspace.json("search", "--text", "striped bag")["hits"]
