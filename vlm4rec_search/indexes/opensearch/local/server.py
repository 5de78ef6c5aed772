"""Start, stop and look at the OpenSearch of a folder: one process and one sub-folder (`node-1` ...) per node."""

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.indexes.opensearch.local import process

# Free ports of 127.0.0.1.

USUAL = 9200  # where clients look for OpenSearch


def choose(wanted: int | None, count: int) -> list[int]:
    """Return `count` ports: those from `wanted` on; without it those from 9200 on, or any when one is taken.

    A `wanted` of 0 asks for any, as the operating system gives them out.

    Raises:
        UsageError: a wanted port is taken or cannot be a port.
    """
    first = USUAL if wanted is None else wanted
    if not 0 <= first <= 65536 - count or 0 < first < 1024:
        raise UsageError(f"--port {first}: use 1024 to {65536 - count}, or 0 for any free one")
    ports = list(range(first, first + count))
    taken = [port for port in ports if first and not free(port)]
    if taken and wanted is not None:
        raise UsageError(f"port {taken[0]} is taken by another program: choose another --port, or leave it out")
    return ports if first and not taken else any_free(count)


def any_free(count: int) -> list[int]:
    """Return different ports that the operating system gives out; they are free again at once."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free(port: int) -> bool:
    """Tell whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


HEAP_MB = 1024
_PATIENCE = 300.0  # seconds until a start has failed; one node takes 6 on an idle machine
_POLL = 0.3

Node = tuple[Path, str, "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class Status:
    """What runs in a folder: `plugins` as the server names them, `health` green, yellow or red, `nodes` that live."""

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
) -> Status:
    """Start the server and wait until its cluster is green (or yellow for good: an index wants more nodes).

    Jars that are missing are downloaded first. The first node answers on `port` of 127.0.0.1 (default: 9200, or any
    when it is taken; 0: any), the others on the ports after it. `nodes` is by default what the folder holds, else 1;
    each has at most `heap_mb` MiB of Java memory. `settings` and `java_options` are further ones of every node;
    `java_home` is a Java in place of the packaged one.

    Raises:
        UsageError: it runs already, a port cannot be had, the folder holds another number of nodes, `java_home` is no
            Java for it, or the packages of the extra `opensearch-local` are missing.
        RunError: a download failed, or the server died or did not come up.
    """
    folder = folder.resolve()
    try:
        with process.claimed(folder):
            if there := status(folder).url:
                raise UsageError(f"OpenSearch runs already at {there}; `vlm4rec opensearch stop` ends it")
            http = choose(port, _count(folder, nodes))
            started = _launch(folder, http, process.java(folder, heap_mb, java_options, java_home), settings or {})
            try:
                _wait(process.cluster_name(folder), started)
            except BaseException:
                for *_, child in started:
                    child.kill()
                    child.wait()
                raise
    except BlockingIOError:
        raise UsageError(f"another start is under way in {folder}") from None
    return status(folder)


def stop(folder: Path) -> bool:
    """Stop the server and wait until it is gone; return whether there was one. Its data stay.

    Raises:
        RunError: it does not end.
    """
    return process.end(_folders(folder.resolve()))


def status(folder: Path) -> Status:
    """Return what runs in the folder; `running` is false, with a `url`, for one that does not answer (yet)."""
    alive = [found for found in map(process.running, _folders(folder.resolve())) if found]
    for node in alive:
        try:
            with httpx.Client(base_url=node.url, timeout=10.0, trust_env=False) as client:
                version = client.get("/").json()["version"]["number"]
                health = client.get("/_cluster/health").json()["status"]
                plugins = {row["component"] for row in client.get("/_cat/plugins?format=json").json()}
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            continue
        return Status(True, node.url, version, sorted(plugins), len(alive), health)
    return Status(False, alive[0].url if alive else None, nodes=len(alive))


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("node-*"))


def _count(folder: Path, wanted: int | None) -> int:
    """Return how many nodes to start: a cluster that was made by three does not come up with one."""
    there = len([node for node in _folders(folder) if any(node.glob("node_*/data/nodes"))])
    if there and wanted not in (None, there):
        raise UsageError(f"{folder} holds the data of {there} node(s): start it with --nodes {there}, or set "
                         "VLM4REC_OPENSEARCH to another folder")  # fmt: skip
    return there or wanted or 1


def _launch(folder: Path, http: list[int], java: process.Java, extra: Mapping[str, process.Setting]) -> list[Node]:
    names = [f"node-{number}" for number in range(1, len(http) + 1)]
    transport = any_free(len(http))
    cluster = {**process.cluster(folder, names, transport), **extra}
    started: list[Node] = []
    for name, port, inner in zip(names, http, transport, strict=True):
        line = [*java.line, process.node(folder / name, cluster, name, port, inner)]
        url = f"http://127.0.0.1:{port}"
        started.append((folder / name, url, process.launch(folder / name, line, java.environment, url)))
    return started


def _wait(cluster: str, started: list[Node]) -> None:
    """Wait until all nodes have joined and no shard is on its way any more."""
    deadline, seen = time.monotonic() + _PATIENCE, 0
    with bar("OpenSearch: nodes", len(started)) as advance:
        while time.monotonic() < deadline:
            for folder, _, child in started:
                if child.poll() is not None:
                    raise RunError(f"OpenSearch died while it started: {process.last_words(folder)}")
            health = _health(started[0][1])
            joined = int(health.get("number_of_nodes", 0)) if health.get("cluster_name") == cluster else 0
            if joined > seen:
                advance(joined - seen)
                seen = joined
            if joined == len(started) and _settled(health):
                return
            time.sleep(_POLL)
    raise RunError(f"OpenSearch did not come up within {_PATIENCE:.0f} s: {process.last_words(started[0][0])}")


def _health(url: str) -> dict[str, str | int]:
    try:
        answer: dict[str, str | int] = httpx.get(f"{url}/_cluster/health", timeout=5.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return answer


def _settled(health: dict[str, str | int]) -> bool:
    """Tell whether the cluster is green, or yellow for good."""
    moving = ("initializing_shards", "relocating_shards", "delayed_unassigned_shards", "number_of_pending_tasks")
    still = not any(health.get(name) for name in moving)
    return health.get("status") == "green" or (health.get("status") == "yellow" and still)
