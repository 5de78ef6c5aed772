"""The demo: the whole job in one command, by the real small model."""

from conftest import Workspace


def test_the_demo_captions_with_the_small_model_and_ends_in_a_search(workspace: Workspace) -> None:
    told = workspace.vlm4rec("demo")
    assert "The photos were described by tiny" in told
    (caption,) = {row["maker"].split("@")[0] for row in workspace.json("ledger")["rows"] if row["kind"] == "caption"}
    assert caption == "tiny"
    captions = workspace.query(
        "SELECT status, COUNT(*) > 50 FROM captions.item_captions WHERE caption <> '' GROUP BY 1"
    )
    assert captions == [("ok", True)]
    assert workspace.json("search", "--text", "striped bag")["hits"]
