"""The examples run on a small shop."""

import json
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
from helpers.backends import Embedded
from helpers.search_tables import made, shop_tables
from helpers.workspace import ROOT


def test_the_service_answers_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Embedded(tmp_path).publish(shop_tables(), made())
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    sys.modules.pop("service", None)
    from service import serve

    server = serve(str(tmp_path), 0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with urlopen(f"http://127.0.0.1:{server.server_port}/u01") as answer:
            hits = json.load(answer)["hits"]
    finally:
        server.shutdown()
    assert [hit["rank"] for hit in hits] == list(range(1, 11))
