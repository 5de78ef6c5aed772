"""The local server: start, status, stop, and what happens to it when a node is killed."""

import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from helpers.opensearch_server import HEAP_MB, QUICK
from helpers.workspace import Workspace

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch.local import process, server

ONE_COPY = {"settings": {"number_of_shards": 1, "number_of_replicas": 1}}


def test_the_server_searches_vectors_with_a_filter_and_english_words(opensearch_url: str, own_prefix: str) -> None:
    method = {"name": "hnsw", "engine": "lucene"}
    vector = {"type": "knn_vector", "dimension": 2, "space_type": "cosinesimil", "method": method}
    properties = {"vector": vector, "title": {"type": "text", "analyzer": "english"}}
    with httpx.Client(base_url=f"{opensearch_url}/{own_prefix}", timeout=60) as index:
        index.put("", json={"settings": {"index.knn": True}, "mappings": {"properties": properties}}).raise_for_status()
        index.put("/_doc/east", json={"vector": [1, 0], "title": "a running shoe"}).raise_for_status()
        index.put("/_doc/north?refresh=true", json={"vector": [0, 1], "title": "hats"}).raise_for_status()
        unseen = {"bool": {"must_not": {"ids": {"values": ["east"]}}}}
        knn = {"query": {"knn": {"vector": {"vector": [3, 4], "k": 2, "filter": unseen}}}}
        hits = index.post("/_search", json=knn).json()["hits"]["hits"]
        assert [(hit["_id"], round(hit["_score"], 6)) for hit in hits] == [("north", 0.9)]  # (1 + 4/5) / 2
        words = {"query": {"match": {"title": "runs"}}}
        assert [hit["_id"] for hit in index.post("/_search", json=words).json()["hits"]["hits"]] == ["east"]


def test_start_status_kill_start_stop(own_server: Path, workspace: Workspace) -> None:
    # no Java can be found
    workspace.settings |= {"VLM4REC_OPENSEARCH": str(own_server), "PATH": str(own_server), "JAVA_HOME": ""}
    assert workspace.json("opensearch", "status")["running"] is False
    status = workspace.json("opensearch", "start", "--port", "0", "--heap", str(HEAP_MB))
    assert (status["running"], status["version"], status["nodes"], status["health"]) == (True, "3.5.0", 1, "green")
    assert "org.opensearch.knn.plugin.KNNPlugin" in status["plugins"]
    assert status == workspace.json("opensearch", "status")
    assert "runs already" in workspace.vlm4rec("opensearch", "start", code=2)
    for kind in ("http", "transport"):
        (node,) = httpx.get(f"{status['url']}/_nodes/{kind}", timeout=60).json()["nodes"].values()
        assert [address.split(":")[0] for address in node[kind]["bound_address"]] == ["127.0.0.1"]
    httpx.put(f"{status['url']}/kept/_doc/1", json={"word": "kept"}, timeout=60).raise_for_status()

    node_process = process.find_running(own_server / "node-1")
    assert node_process is not None
    os.kill(node_process.pid, signal.SIGKILL)
    process.end([own_server / "node-1"])  # waits until the kernel has released its lock
    nothing = {"running": False, "url": None, "version": None, "plugins": [], "nodes": 0, "health": None}
    assert workspace.json("opensearch", "status") == nothing
    again = server.start(own_server, heap_mb=HEAP_MB, java_options=QUICK)
    assert again.url == status["url"]  # the port of the last start
    assert httpx.get(f"{again.url}/kept/_doc/1", timeout=60).json()["_source"] == {"word": "kept"}
    assert "has stopped" in workspace.vlm4rec("opensearch", "stop")
    assert "no OpenSearch runs" in workspace.vlm4rec("opensearch", "stop")


def test_a_cluster_of_three_nodes_survives_the_loss_of_one(own_server: Path) -> None:
    cluster = server.start(own_server, port=0, nodes=3, heap_mb=256, java_options=QUICK)
    assert (cluster.nodes, cluster.health) == (3, "green")
    limits = httpx.get(f"{cluster.url}/_cluster/settings?include_defaults&flat_settings", timeout=60).json()["defaults"]
    assert limits["cluster.routing.allocation.disk.watermark.low"] == "2gb"  # a share may be more than a full disk has
    httpx.put(f"{cluster.url}/copied", json=ONE_COPY, timeout=60).raise_for_status()
    everywhere = "?refresh=true&wait_for_active_shards=all"
    httpx.put(f"{cluster.url}/copied/_doc/1{everywhere}", json={"word": "kept"}, timeout=60).raise_for_status()
    (row,) = httpx.get(f"{cluster.url}/_cat/shards/copied?format=json&h=node,prirep", timeout=60).json()[:1]
    lost = process.find_running(own_server / row["node"])
    assert lost is not None
    os.kill(lost.pid, signal.SIGKILL)
    nodes = filter(None, map(process.find_running, sorted(own_server.glob("node-*"))))
    remaining = next(node for node in nodes if node != lost)
    health = httpx.get(f"{remaining.url}/_cluster/health?wait_for_nodes=2&timeout=60s", timeout=90).json()
    assert health["number_of_nodes"] == 2
    assert health["status"] != "red"
    assert httpx.get(f"{remaining.url}/copied/_doc/1", timeout=60).json()["_source"] == {"word": "kept"}
    assert server.status(own_server).nodes == 2
    assert server.stop(own_server)
    with pytest.raises(UsageError, match="holds the data of 3 node"):
        server.start(own_server, nodes=1)


def test_the_error_of_a_node_that_dies_is_reported(own_server: Path) -> None:
    with pytest.raises(RunError, match=r"died while it started: .*no_such_setting.* \(log: "):
        server.start(own_server, port=0, heap_mb=256, settings={"no_such_setting": "1"}, java_options=QUICK)
    assert not server.status(own_server).running


def test_taken_and_invalid_ports_are_refused(own_server: Path, workspace: Workspace) -> None:
    workspace.settings["VLM4REC_OPENSEARCH"] = str(own_server)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert f"port {port} is taken" in workspace.vlm4rec("opensearch", "start", "--port", port, code=2)
    assert "use 1024 to 65533" in workspace.vlm4rec("opensearch", "start", "--port", "65534", "--nodes", "3", code=2)


def test_a_failed_download_leaves_a_damaged_jar_untouched(own_server: Path, workspace: Workspace) -> None:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HOME": str(own_server)}
    workspace.settings |= {**nowhere, "VLM4REC_OPENSEARCH": str(own_server)}
    damaged = own_server / ".m2" / "repository" / "args4j" / "args4j" / "2.33" / "args4j-2.33.jar"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"half of a jar")
    output = workspace.vlm4rec("opensearch", "start", "--port", "0", code=1)
    assert "args4j:args4j:jar:2.33 could not be downloaded from repo.maven.apache.org (ConnectError)" in output
    assert damaged.read_bytes() == b"half of a jar"
    assert sorted(path.name for path in damaged.parent.iterdir()) == [damaged.name]


def test_another_java_is_used_and_an_unsuitable_folder_is_refused(
    own_server: Path, tmp_path: Path, workspace: Workspace
) -> None:
    packaged = process.prepare_java(own_server, HEAP_MB).command
    assert not [option for option in packaged if "vector" in option]  # the packaged Java has no SIMD
    full = tmp_path / "jdk"
    (full / "bin").mkdir(parents=True)
    (full / "bin" / "java").symlink_to(packaged[0])
    (full / "release").write_text('JAVA_VERSION="25.0.3"\nMODULES="java.base jdk.incubator.vector"\n', "utf-8")
    command = process.prepare_java(own_server, HEAP_MB, home=full).command
    assert command[0] == str(full / "bin" / "java")
    assert "--add-modules=jdk.incubator.vector" in command
    workspace.settings |= {"VLM4REC_OPENSEARCH_JAVA": str(full), "VLM4REC_OPENSEARCH": str(own_server)}
    for release in ('JAVA_VERSION="17.0.15"\n', "something else"):
        (full / "release").write_text(release, "utf-8")
        assert f"{full} is not the folder of a Java 21 or later" in workspace.vlm4rec("opensearch", "start", code=2)


def test_a_state_file_without_a_lock_is_not_a_running_server(tmp_path: Path) -> None:
    with process.locked(tmp_path):
        pass
    (tmp_path / "server.json").write_text(f'{{"pid": {os.getpid()}, "url": "http://127.0.0.1:9"}}', "utf-8")
    assert process.find_running(tmp_path) is None
    assert not process.end([tmp_path])  # this test's own process, which the file names, is not ended


def test_two_starts_at_once_are_refused(tmp_path: Path) -> None:
    with process.locked(tmp_path), pytest.raises(UsageError, match="another start is under way"):
        server.start(tmp_path)


def test_a_taken_port_is_an_error_with_the_cure(tmp_path: Path) -> None:
    assert server.remembered_port(tmp_path) == server.DEFAULT_PORT
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        (tmp_path / "port").write_text(f"{taken}\n", "utf-8")
        with pytest.raises(UsageError, match=f"port {taken} is taken .* --port"):
            server.start(tmp_path)


def test_free_ports_differ_and_are_free() -> None:
    chosen = server.choose_ports(0, 3)
    assert len(set(chosen)) == 3
    assert all(server.is_free(port) for port in chosen)
