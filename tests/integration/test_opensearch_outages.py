"""Publications to a server that is restarted or loses a node: no document is lost, and no answer mixes releases."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.alias_reader import (
    QUERY,
    SERVER_AWAY,
    labelled_hits,
    publish_labelled,
    reading,
    search_hits,
)
from helpers.faulty_proxy import Fault, proxy
from helpers.opensearch_server import HEAP_MB, QUICK
from helpers.server_releases import Window

from vlm4rec_search import open_index
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.loader import load
from vlm4rec_search.indexes.opensearch.local import process, server


def start(own_server: Path, port: int = 0, nodes: int | None = None) -> str:
    url = server.start(own_server, port=port, nodes=nodes, heap_mb=HEAP_MB, java_options=QUICK).url
    assert url
    return url


@pytest.mark.long
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
def test_an_open_index_answers_while_its_server_restarts(own_server: Path) -> None:
    window = Window(start(own_server), "shop-")
    release = publish_labelled(window, "old").meta.name
    with open_index(window.url, prefix="shop-", deadline=2.0, follow=0.5) as index:
        server.stop(own_server)
        answers = [index.search(QUERY)]
        starting = threading.Thread(target=start, args=(own_server, int(window.url.rsplit(":", 1)[1])))
        starting.start()
        while answers[-1].degraded is not None:
            answers.append(index.search(QUERY))
        starting.join()
        whole = search_hits(index)
    assert {(answer.release, bool(answer.hits)) for answer in answers} == {(release, True)}
    assert whole == (release, labelled_hits("old"))


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
