"""The demo runs all steps in one command, with the packaged vision-language model."""

from collections import Counter

from helpers.workspace import Workspace

from vlm4rec_search import Query, open_index

SEARCH_WITHOUT_PANDAS = """
import sys
from vlm4rec_search.cli import main
main(["search", "--user", "u021", "--text", "striped bag", "--filter", "price=..60"], standalone_mode=False)
sys.exit("pandas" in sys.modules)
"""


def assert_is_personal(workspace: Workspace) -> None:
    """Compare the answers to all shoppers: the ranking was chosen for this shop, and tells them apart."""
    shoppers = [user for (user,) in workspace.query("SELECT user_id FROM search.user_documents")]
    with open_index(str(workspace.folder / "index")) as index:
        answers = [index.search(Query(user=user)) for user in shoppers]
    assert answers[0].ranking.startswith("shop-")
    first = Counter(answer.hits[0].item_id for answer in answers).most_common(1)[0][1]
    shown = {hit.item_id for answer in answers for hit in answer.hits}
    assert first <= 0.1 * len(shoppers)
    assert len(shown) >= 0.8 * workspace.query("SELECT count(*) FROM search.item_documents")[0][0]


def test_the_demo_uses_the_packaged_model_and_its_tables_can_be_published_to_a_server(
    workspace: Workspace, opensearch_url: str, own_prefix: str
) -> None:
    workspace.choose_ranking()
    workspace.settings["VLM4REC_ENCODER"] = "all-MiniLM-L6-v2"  # that of the demo: a small one takes words for others
    output = workspace.vlm4rec("demo")
    assert "The photos were described by the captioner tiny" in output
    captioners = "SELECT DISTINCT captioner LIKE 'tiny@%' FROM captions.item_captions WHERE status = 'ok'"
    assert workspace.query(captioners) == [(True,)]
    hits = workspace.json("search", "--text", "striped bag")["hits"]
    assert "stripes" in dict(workspace.query("SELECT item_id, caption FROM search.item_documents"))[hits[0]["item_id"]]
    assert [hit["category"] for hit in hits].count("bags") >= 8
    assert workspace.json("queries", "run", "rankings_chosen")["rows"], "the copy has the release"
    workspace.run("python", "-c", SEARCH_WITHOUT_PANDAS)  # it would take a third of a second and 30 MB
    assert_is_personal(workspace)
    workspace.settings["VLM4REC_INDEX_PREFIX"] = own_prefix
    release = workspace.json("index", "--no-choose", "--url", opensearch_url)["release"]
    for query in (("--user", "u021"), ("--text", "striped bag")):
        answer = workspace.json("search", *query, "--url", opensearch_url)
        assert (answer["release"], len(answer["hits"])) == (release, 10)
