"""All steps against a real server: plan, index, search, doctor after a loss, an incremental release, a forgetting."""

import json

import duckdb
import pytest
from helpers.server_releases import Window
from helpers.workspace import Workspace

pytestmark = pytest.mark.usefixtures("in_process")


def table_version(workspace: Workspace) -> str:
    """Return the number that SQLMesh gives the table behind search.item_documents."""
    ((name,),) = workspace.query(
        "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'search__item_documents%'"
    )
    return str(name).removeprefix("search__item_documents__")


def listed_versions(workspace: Workspace, url: str) -> list[str]:
    return [release["table_version"] for release in workspace.json("releases", "list", "--url", url)["releases"]]


def test_tables_are_published_to_a_server_and_differences_are_repaired(
    planned_shop: Workspace, opensearch_url: str, own_prefix: str
) -> None:
    workspace = planned_shop
    workspace.settings["VLM4REC_INDEX_PREFIX"] = own_prefix
    first = json.loads(workspace.run("vlm4rec", "index", "--url", opensearch_url, "--json"))
    assert (first["added"], first["changed"], first["deleted"], first["rejected"]) == (first["documents"], 0, 0, 0)
    assert listed_versions(workspace, opensearch_url) == [table_version(workspace)]
    hits = workspace.json("search", "--user", "u001", "--url", opensearch_url)
    assert (hits["release"], len(hits["hits"])) == (first["release"], 10)
    assert workspace.json("doctor", "--url", opensearch_url)["success"] is True

    window = Window(opensearch_url, own_prefix)
    lost = hits["hits"][0]["item_id"]
    window.client.delete(index=f"{own_prefix}items", id=lost, refresh=True)
    output = workspace.run("vlm4rec", "doctor", "--url", opensearch_url, code=1)
    assert f"error: 1 document only in the tables, such as {lost}" in output

    second = workspace.json("index", "--url", opensearch_url, "--incremental")
    assert (second["documents"], second["added"], second["changed"], second["deleted"]) == (first["documents"], 1, 0, 0)
    assert lost in window.documents()
    with duckdb.connect(str(workspace.folder / "releases.duckdb")) as connection:
        releases = connection.execute("SELECT release, mode, outcome FROM releases ORDER BY recorded_at").fetchall()
        sent = connection.execute("SELECT indexed FROM loads WHERE release = ? ORDER BY index", [second["release"]])
        assert releases == [(first["release"], "full", "published"), (second["release"], "incremental", "published")]
        assert sent.fetchall() == [(1,), (0,), (0,)]  # the lost item; no profile, no segment

    workspace.run("vlm4rec", "forget", "--user", "u001", "--url", opensearch_url)
    third = workspace.run("vlm4rec", "index", "--url", opensearch_url, told=True)  # without a plan
    assert "1 forgotten shoppers are left out; `sqlmesh plan` removes them from the tables" in third
    assert f"{second['users'] - 1} profiles ({second['users'] - 1} before)" in third
    assert "u001" not in window.documents("profiles")
    assert workspace.json("doctor", "--url", opensearch_url)["success"] is True
