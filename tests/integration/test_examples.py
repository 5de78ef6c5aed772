"""The examples run on a small shop."""

import json
import sys
import threading
from urllib.request import urlopen

import pytest
from helpers.workspace import ROOT, Workspace


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("shop"))
    workspace.vlm4rec("shop", "--to", "data", "--items", "60", "--shoppers", "40", "--dirty")
    workspace.plan()
    workspace.vlm4rec("index", "--force")
    return workspace


def test_the_service_answers_in_json(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    sys.modules.pop("service", None)
    from service import serve

    server = serve(str(shop.folder / "index"), 0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        (user,) = shop.query("SELECT user_id FROM search.user_documents ORDER BY items DESC, user_id LIMIT 1")[0]
        with urlopen(f"http://127.0.0.1:{server.server_port}/{user}") as answer:
            hits = json.load(answer)["hits"]
    finally:
        server.shutdown()
    assert [hit["rank"] for hit in hits] == list(range(1, 11))
