"""The examples run on a small shop."""

import json
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import duckdb
import pytest
from helpers.workspace import ROOT, Workspace


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("shop"))
    workspace.vlm4rec("shop", "--to", "data", "--items", "60", "--shoppers", "40", "--dirty")
    workspace.plan()
    workspace.vlm4rec("publish-tables")
    workspace.vlm4rec("index", "--force")
    return workspace


def test_the_service_answers_in_json(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    sys.modules.pop("service", None)
    from service import serve

    server = serve(str(shop.folder / "index"), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        (user,) = shop.query("SELECT user_id FROM search.user_documents ORDER BY items DESC, user_id LIMIT 1")[0]
        with urlopen(f"http://127.0.0.1:{server.server_port}/{user}") as answer:
            hits = json.load(answer)["hits"]
    finally:
        server.shutdown()
    assert [hit["rank"] for hit in hits] == list(range(1, 11))


def test_every_query_of_the_analyst_session_has_rows(shop: Workspace) -> None:
    lines = (ROOT / "examples" / "analyst.sql").read_text("utf-8").splitlines()
    session = "\n".join(line for line in lines if not line.startswith("--"))
    queries = [query for query in session.split(";") if query.strip()]
    assert len(queries) == 5
    with duckdb.connect(str(Path(shop.folder) / "published" / "warehouse.duckdb"), read_only=True) as connection:
        for query in queries:
            assert connection.execute(query).fetchall(), query
