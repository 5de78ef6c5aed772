"""Start, stop and inspect the OpenSearch of a folder: each node has a process and a sub-folder (`node-1` ...)."""

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.opensearch.local import process

DEFAULT_PORT = 9200  # where clients look for OpenSearch
HEAP_MB = 1024
_PORT = "port"  # file in the folder of a server
_PATIENCE = 300.0  # seconds until a start has failed; one node takes 6 on an idle machine
_POLL = 0.3  # seconds

Node = tuple[Path, str, "subprocess.Popen[bytes]"]  # folder, URL, process


def choose_ports(wanted: int, count: int) -> list[int]:
    """Return `count` consecutive free ports of 127.0.0.1, the first of them `wanted`.

    0 takes any free ones.

    Raises:
        UsageError: a wanted port is taken or out of range.
    """
    if not 0 <= wanted <= 65536 - count or 0 < wanted < 1024:
        raise UsageError(f"--port {wanted}: use 1024 to {65536 - count}, or 0 for any free one")
    if wanted == 0:
        return find_free_ports(count)
    ports = list(range(wanted, wanted + count))
    if taken := [port for port in ports if not is_free(port)]:
        raise UsageError(
            f"port {taken[0]} is taken by another program: end it, or choose another one with --port (0 takes any free"
            " one), which the next start takes again"
        )
    return ports


def remembered_port(folder: Path) -> int:
    """Return the first port of the last start in a folder, 9200 before the first one."""
    try:
        return int((folder / _PORT).read_text("utf-8"))
    except (OSError, ValueError):
        return DEFAULT_PORT


def find_free_ports(count: int) -> list[int]:
    """Return different ports that the operating system gives out; they are free again at once."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Status:
    """The server of a folder.

    Attributes:
        running: whether it answers.
        url: of its first node that runs.
        version: of OpenSearch.
        plugins: as the server names them.
        nodes: number of nodes that run.
        health: green, yellow or red.
    """

    running: bool
    url: str | None = None
    version: str | None = None
    plugins: list[str] = field(default_factory=list)
    nodes: int = 0
    health: str | None = None


def start(
    folder: Path,
    port: int | None = None,
    nodes: int | None = None,
    heap_mb: int = HEAP_MB,
    settings: Mapping[str, process.Setting] | None = None,
    java_options: Sequence[str] = (),
    java_home: Path | None = None,
    source: str = maven.CENTRAL,
) -> Status:
    """Start the server and wait until its cluster is green, or yellow because an index wants more nodes.

    Missing jars are downloaded first.

    Args:
        folder: of the server.
        port: of 127.0.0.1, for the first node; the other nodes take the ports after it. See `choose_ports`. None takes
            that of the last start, see `remembered_port`.
        nodes: number of nodes; None takes the number that the folder holds data of, else 1.
        heap_mb: largest Java heap of each node, in MiB.
        settings: further settings of every node.
        java_options: further options of Java.
        java_home: folder of the Java to use in place of the packaged one.
        source: of the jars, as in `maven.download`.

    Raises:
        UsageError: the server runs already, a port is not free, the folder holds data of another number of nodes,
            `java_home` holds no Java for it, or the packages of the extra `opensearch-local` are missing.
        RunError: a download failed, or the server died or did not come up.
    """
    folder = folder.resolve()
    try:
        with process.locked(folder):
            if url := status(folder).url:
                raise UsageError(f"OpenSearch runs already at {url}; `vlm4rec opensearch stop` ends it")
            ports = choose_ports(remembered_port(folder) if port is None else port, _count_nodes(folder, nodes))
            java = process.prepare_java(folder, heap_mb, java_options, java_home, source)
            started = _launch(folder, ports, java, settings or {})
            try:
                _wait(process.cluster_name(folder), started)
            except BaseException:
                for *_, child in started:
                    child.kill()
                    child.wait()
                raise
            (folder / _PORT).write_text(f"{ports[0]}\n", "utf-8")
    except BlockingIOError:
        raise UsageError(f"another start is under way in {folder}") from None
    return status(folder)


def stop(folder: Path) -> bool:
    """Stop the server and wait until it is gone; return whether it was running. Its data stay.

    Raises:
        RunError: it does not end.
    """
    return process.end(_node_folders(folder.resolve()))


def status(folder: Path) -> Status:
    """Return the status of the folder's server; a server that runs but does not answer has a `url` only."""
    nodes = [node for node in map(process.find_running, _node_folders(folder.resolve())) if node]
    for node in nodes:
        try:
            with httpx.Client(base_url=node.url, timeout=10.0, trust_env=False) as client:
                version = client.get("/").json()["version"]["number"]
                health = client.get("/_cluster/health").json()["status"]
                plugins = {row["component"] for row in client.get("/_cat/plugins?format=json").json()}
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            continue
        return Status(True, node.url, version, sorted(plugins), len(nodes), health)
    return Status(False, nodes[0].url if nodes else None, nodes=len(nodes))


def _node_folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("node-*"))


def _count_nodes(folder: Path, wanted: int | None) -> int:
    """Return the number of nodes to start: a cluster that three nodes formed does not come up with one."""
    existing = len([node for node in _node_folders(folder) if any(node.glob("node_*/data/nodes"))])
    if existing and wanted not in (None, existing):
        raise UsageError(
            f"{folder} holds the data of {existing} node(s): start it with --nodes {existing}, or set"
            " VLM4REC_OPENSEARCH to another folder"
        )
    return existing or wanted or 1


def _launch(folder: Path, ports: list[int], java: process.Java, extra: Mapping[str, process.Setting]) -> list[Node]:
    names = [f"node-{number}" for number in range(1, len(ports) + 1)]
    transports = find_free_ports(len(ports))
    cluster = {**process.cluster_settings(folder, names, transports), **extra}
    started: list[Node] = []
    for name, port, transport in zip(names, ports, transports, strict=True):
        command = [*java.command, process.node_argument(folder / name, cluster, name, port, transport)]
        url = f"http://127.0.0.1:{port}"
        started.append((folder / name, url, process.launch(folder / name, command, java.environment, url)))
    return started


def _wait(cluster: str, started: list[Node]) -> None:
    """Wait until all nodes have joined and no shard is moving."""
    deadline, shown = time.monotonic() + _PATIENCE, 0
    with bar("OpenSearch: nodes", len(started)) as advance:
        while time.monotonic() < deadline:
            for folder, _, child in started:
                if child.poll() is not None:
                    raise RunError(f"OpenSearch died while it started: {process.last_error(folder)}")
            health = _health(started[0][1])
            joined = int(health.get("number_of_nodes", 0)) if health.get("cluster_name") == cluster else 0
            if joined > shown:
                advance(joined - shown)
                shown = joined
            if joined == len(started) and _is_settled(health):
                return
            time.sleep(_POLL)
    raise RunError(f"OpenSearch did not come up within {_PATIENCE:.0f} s: {process.last_error(started[0][0])}")


def _health(url: str) -> dict[str, str | int]:
    try:
        answer: dict[str, str | int] = httpx.get(f"{url}/_cluster/health", timeout=5.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return answer


def _is_settled(health: dict[str, str | int]) -> bool:
    """Return whether the cluster is green, or yellow and no shard is moving."""
    moving = ("initializing_shards", "relocating_shards", "delayed_unassigned_shards", "number_of_pending_tasks")
    at_rest = not any(health.get(name) for name in moving)
    return health.get("status") == "green" or (health.get("status") == "yellow" and at_rest)
