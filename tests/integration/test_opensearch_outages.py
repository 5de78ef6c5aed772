"""Publications to a server that is restarted or loses a node: no document is lost, and no answer mixes releases."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.alias_reader import SERVER_AWAY, publish_labelled, reading
from helpers.faulty_proxy import Fault, proxy
from helpers.opensearch_server import HEAP_MB, QUICK
from helpers.server_releases import Window

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.loader import load
from vlm4rec_search.indexes.opensearch.local import process, server


def start(own_server: Path, port: int = 0, nodes: int | None = None) -> str:
    url = server.start(own_server, port=port, nodes=nodes, heap_mb=HEAP_MB, java_options=QUICK).url
    assert url
    return url


def test_a_restart_during_the_load_loses_no_document(own_server: Path) -> None:
    window = Window(start(own_server), "shop-")
    publish_labelled(window, "old")

    def restart() -> None:
        server.stop(own_server)
        start(own_server, int(window.url.rsplit(":", 1)[1]))

    with reading(window) as reader:
        publish_while(window, restart)
    reader.assert_saw("old", "new", failing=SERVER_AWAY)


@pytest.mark.long
def test_losing_one_of_three_nodes_during_the_load_loses_no_document(
    own_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(load.__kwdefaults__, "patience", 40.0)  # an index whose only copy is lost does not come back
    window = Window(start(own_server, nodes=3), "shop-")
    publish_labelled(window, "old")
    window.client.cluster.health(index="shop-*", wait_for_status="green")  # each document has its copy

    def lose() -> None:
        node = process.find_running(own_server / "node-3")
        assert node is not None
        os.kill(node.pid, 9)

    with reading(window) as reader:
        try:
            publish_while(window, lose)
        except RunError:  # the node had the only copy of an index that was being loaded: the release is given up
            publish_labelled(window, "new")
    reader.assert_saw("old", "new")  # the two remaining nodes answer every search


def publish_while(window: Window, disturb: Callable[[], None]) -> None:
    """Publish through a proxy that cuts off the first bulk request and calls `disturb` meanwhile."""
    thread = threading.Thread(target=disturb)

    def judge(number: int, _: bytes) -> Fault | None:
        if number == 0:
            thread.start()
            return Fault(cut="before")
        return None

    with proxy(window.url, judge) as url:
        publish_labelled(Window(url, window.catalogue.prefix), "new")
    thread.join()
