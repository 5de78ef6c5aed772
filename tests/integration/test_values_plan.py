"""Odd values of exports, from the files to the answers of both backends."""

import shutil

import pytest
from helpers.workspace import Workspace

# Ids and words in different compositions, invisible signs, entities, prices and availability in words, floats for ids.
ITEMS = """item_id,title,description,category,price,available,brand
ku\u0308-1,Ku\u0308chenlampe gru\u0308n,&quot;warm&quot; &amp; bright,Ku\u0308che,"24,90 €",in_stock,H&amp;M
kü-2,Küchenstuhl grün,,Küche,"1.299,00",out_of_stock,L&#039;Or&eacute;al
A3\u00a0,Caf&eacute; cr&egrave;me mug,N/A,kitchen\u00a0,ask us,preorder,nan
A4\u200b,nan,,kitchen,5,yes,Alder
A5\t,Blue\u00a0pen,None,kitchen,NULL,1,Alder
"""
LOG = """user_id,item_id,timestamp,event_type,value
zoë,kü-1,01.03.2024 10:15,Purchase,1
zoe\u0308,kü-2,02.03.2024 11:00,Add to cart,1
u2,A3,31.03.2024 12:00,purchase,1
u2,A3,2024-04-02 10:00:00 +0200,refund,1
u2,A4,2024-04-02T10:00Z,view,1
NULL,A5,2024-04-02T10:00Z,view,1
u3,A5,2024-04-02 10:00:00 BST,view,1
u3,A5,2024-04-02 10:00:00 CEST,rating,1
u3,kü-2,2024-04-02 10:00:00 CEST,rating,5
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("values"), in_process=True)
    workspace.data.mkdir()
    (workspace.data / "items.csv").write_text(ITEMS, "utf-8")
    (workspace.data / "interactions.csv").write_text(LOG, "utf-8")
    workspace.plan()
    return workspace


def test_values_are_read_as_they_are_meant_and_told_where_not(
    planned: Workspace, opensearch_url: str, own_prefix: str
) -> None:
    items = "SELECT item_id, title, price, available, category, attributes ->> '$.brand' FROM staging.items ORDER BY 1"
    assert planned.query(items) == [
        ("A3", "Café crème mug", None, True, "kitchen", None),
        ("A5", "Blue pen", None, True, "kitchen", "Alder"),
        ("kü-1", "Küchenlampe grün", 24.9, True, "Küche", "H&M"),
        ("kü-2", "Küchenstuhl grün", 1299.0, False, "Küche", "L'Oréal"),
    ]
    assert planned.query("SELECT item_id, field, value, reason FROM staging.rejected_values") == [
        ("A3", "price", "ask us", "price is not a number")
    ]
    refused = "SELECT user_id, item_id, reason FROM staging.rejected_interactions ORDER BY row_number"
    assert planned.query(refused) == [
        ("u2", "A4", "the item was refused: no title"),
        (None, "A5", "no user id"),
        ("u3", "A5", "time zone BST is unknown or has several meanings"),
    ]
    histories = "SELECT user_id, item_id, event_type FROM histories.user_histories ORDER BY user_id, position"
    assert planned.query(histories) == [
        ("u2", "A3", "reversed"),
        ("u2", "A3", "return"),
        ("u3", "A5", "dislike"),
        ("u3", "kü-2", "rating"),
        ("zoë", "kü-1", "purchase"),
        ("zoë", "kü-2", "cart"),
    ]
    checked = planned.vlm4rec("check")
    assert "time zone BST is unknown or has several meanings" in checked
    assert "reason price is not a number, refused 1, example ask us" in checked
    planned.vlm4rec("index", "--no-choose")
    planned.settings["VLM4REC_INDEX_PREFIX"] = own_prefix
    planned.vlm4rec("index", "--no-choose", "--url", opensearch_url)
    for backend in ((), ("--url", opensearch_url)):

        def found(*query: str, backend: tuple[str, ...] = backend) -> set[str]:
            hits = planned.json("search", *query, "--mode", "lexical", *backend)["hits"]
            return {hit["item_id"] for hit in hits}

        assert found("--text", "gru\u0308n") == found("--text", "grün") == {"kü-1", "kü-2"}
        assert found("--text", "café") == {"A3"}
        assert found("--text", "grün", "--filter", "brand=H&M", "--filter", "category=Ku\u0308che") == {"kü-1"}
        answer = planned.json("search", "--user", "zoe\u0308", *backend)
        assert (answer["user"], answer["tier"]) == ("zoë", "profile")


def test_a_declaration_is_a_change_of_the_plan(planned: Workspace, workspace: Workspace) -> None:
    shutil.copytree(planned.folder, workspace.folder, dirs_exist_ok=True)
    (workspace.data / "contract.yaml").write_text("values: {time_zones: {BST: '+01:00'}, nothing: {title: []}}\n")
    workspace.plan()
    times = "SELECT interacted_at::TEXT FROM staging.interactions WHERE user_id = 'u3' ORDER BY ALL"
    assert workspace.query(times)[-1] == ("2024-04-02 09:00:00",)
    assert workspace.query("SELECT title FROM staging.items WHERE item_id = 'A4'") == [("nan",)]


def test_a_declaration_and_new_rows_of_one_plan_reach_all_tables(workspace: Workspace) -> None:
    log = "user_id,item_id,timestamp\nu,a,2024-04-01\nu,b,2024-04-02\nv,a,2024-04-03\n"
    workspace.data.mkdir()
    (workspace.data / "items.csv").write_text('item_id,title,price\na,Mug,"1,299"\nb,Cap,"2,499"\n')
    (workspace.data / "interactions.csv").write_text(log)
    workspace.plan()
    assert workspace.query("SELECT DISTINCT price FROM search.item_documents") == [(None,)], "thousands or decimals?"
    (workspace.data / "contract.yaml").write_text("values: {decimal: ','}\n")
    workspace.plan()
    assert workspace.query("SELECT price FROM search.item_documents ORDER BY item_id") == [(1.299,), (2.499,)]
    # This declaration changes no query of the interactions, and the new row arrives with it.
    (workspace.data / "contract.yaml").write_text("values: {decimal: ',', available: [soon]}\n")
    (workspace.data / "interactions.csv").write_text(f"{log}v,b,2024-04-04\n")
    workspace.plan()
    for table in ("staging.interactions", "histories.user_histories"):
        assert workspace.query(f"SELECT COUNT(*) FROM {table}") == [(4,)], table
