"""The server is stopped and killed during a load, and comes back."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from helpers.loading_index import item, loading_index
from helpers.opensearch_server import HEAP_MB, running

from vlm4rec_search.indexes.opensearch.bulk import Operation, Rejection
from vlm4rec_search.indexes.opensearch.loader import load, loading
from vlm4rec_search.indexes.opensearch.local import process, server

ITEMS = 400


@pytest.mark.long
def test_stopping_and_killing_the_server_during_a_load_loses_no_document(tmp_path: Path) -> None:
    """The loader waits while its server is away: first it was stopped, then killed."""
    url = running(tmp_path)

    def come_back() -> None:
        process.end([tmp_path / "node-1"])  # waits until the kernel has released the lock of a killed process
        server.start(tmp_path, port=urlsplit(url).port, heap_mb=HEAP_MB)

    def operations() -> Iterator[Operation]:
        for number in range(ITEMS):
            if number == ITEMS // 3:
                server.stop(tmp_path)
                come_back()
            if number == 2 * ITEMS // 3:
                (node,) = own.client.nodes.info(metric="process")["nodes"].values()
                os.kill(node["process"]["id"], signal.SIGKILL)
                come_back()
            yield item(number)

    rejected: list[Rejection] = []
    with loading_index(url, refresh_interval="7s") as own:
        with loading(own.client, own.name):
            loaded = load(own.client, own.name, operations(), ITEMS, rejected.append, chunk_bytes=2_000, patience=300)
        assert (loaded.indexed, rejected) == (ITEMS, [])
        assert own.titles() == {f"i{number:05d}": f"shoe {number}" for number in range(ITEMS)}
        assert own.settings()["refresh_interval"] == "7s"
    server.stop(tmp_path)
