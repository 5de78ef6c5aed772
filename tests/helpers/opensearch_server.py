"""A real OpenSearch for tests: the one at `OPENSEARCH_URL`, or else a server that the workers of a run share.

Each test uses names with a prefix of its own (`own_prefix`) and deletes only those.
"""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from opensearchpy import OpenSearch

from vlm4rec_search.common.errors import Vlm4recError
from vlm4rec_search.indexes.opensearch.local import server

HEAP_MB = 512
QUICK = ("-XX:TieredStopAtLevel=1",)  # halves the processor time of a start, but a warm server is slower
# By default the server looks at the disk every 30 s, and would lift the blocks with which tests simulate a full disk.
SELDOM = {"cluster.info.update.interval": "60m"}
MEMORY, ROOM = Path("/dev/shm"), 4 << 30  # noqa: S108  bytes that have to be free there
OWN = f"vlm4rec-tests-{os.getuid()}-"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the data of servers, in memory if there is room; the last worker of the run removes it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "opensearch"
    folder.mkdir(exist_ok=True)
    with (folder / "users").open("w") as users:
        with _alone(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            place = _place(folder)
        yield place
        with _alone(folder):
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another worker still uses it
            _remove(place)


def _place(folder: Path) -> Path:
    """Return the folder for the data of a run: in memory a publication of a few documents takes half the time."""
    link = folder / "servers"
    if not link.exists() and MEMORY.is_dir():
        _remove_left_over()
        if shutil.disk_usage(MEMORY).free >= ROOM:
            place = Path(tempfile.mkdtemp(prefix=OWN, dir=MEMORY))
            (place / "users").symlink_to(folder / "users")
            link.symlink_to(place)
    link.mkdir(exist_ok=True)
    return link.resolve()


def _remove_left_over() -> None:
    """Remove what runs that were killed have left in memory: nobody holds their lock."""
    for link in MEMORY.glob(f"{OWN}*/users"):
        with suppress(BlockingIOError), ExitStack() as stack:
            with suppress(FileNotFoundError):  # pytest has removed the folder of the run
                fcntl.flock(stack.enter_context(link.open()), fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(link.parent)


def _remove(place: Path) -> None:
    for lock in place.glob("**/node-1/lock"):
        server.stop(lock.parents[1])
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def opensearch_url(servers: Path) -> str:
    """The address of a running OpenSearch; the last worker that uses it stops it."""
    if given := os.environ.get("OPENSEARCH_URL"):
        return given.rstrip("/")
    with _alone(servers):
        return running(servers / "server")


@pytest.fixture
def own_prefix(opensearch_url: str) -> Iterator[str]:
    """A prefix for the indexes, templates and pipelines of one test; its indexes are deleted afterwards."""
    with prefixed(opensearch_url) as prefix:
        yield prefix


@pytest.fixture
def own_server(opensearch_url: str, servers: Path) -> Iterator[Path]:
    """A folder for a server that the test may stop and kill; it is stopped afterwards."""
    if os.environ.get("OPENSEARCH_URL"):
        pytest.skip("OPENSEARCH_URL is set, so no server on this machine is tested")
    place = Path(tempfile.mkdtemp(dir=servers))
    yield place / "server"
    _remove(place)


@contextmanager
def prefixed(opensearch_url: str) -> Iterator[str]:
    """Yield a unique prefix; its indexes are deleted afterwards."""
    prefix = f"t{uuid.uuid4().hex[:10]}"
    yield prefix
    rows = httpx.get(f"{opensearch_url}/_cat/indices/{prefix}*?format=json&expand_wildcards=all", timeout=60).json()
    for row in rows:
        httpx.delete(f"{opensearch_url}/{row['index']}", timeout=60).raise_for_status()


def forget(client: OpenSearch, names: list[str]) -> None:
    """Delete the templates and pipelines that `install_templates` stored."""
    for name in names:
        kind = "_search/pipeline" if "-minmax-" in name else "_scripts"
        client.transport.perform_request("DELETE", f"/{kind}/{name}")


def running(folder: Path) -> str:
    """Return the URL of the server of a folder, which is started if it does not run."""
    status = server.status(folder)
    try:
        if not status.running:
            status = server.start(folder, port=0, heap_mb=HEAP_MB, settings=SELDOM, java_options=QUICK)
    except Vlm4recError as error:
        _unavailable(str(error))
    return status.url or _unavailable("it did not start")


def _unavailable(reason: str) -> str:
    message = f"no OpenSearch here: {reason}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock that the workers of a run share."""
    with (folder / "start").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
