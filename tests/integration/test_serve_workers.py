"""Several processes of the service: they share a release, a killed one is replaced, and a stop loses no request."""

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from helpers.alias_reader import labelled_tables
from helpers.six_items import ENCODER, meta
from helpers.waiting import wait_until
from helpers.workspace import Workspace

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.indexes import open_releases
from vlm4rec_search.indexes.embedded.arrays import arrays_folder
from vlm4rec_search.indexes.embedded.followed import FollowedFolder
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.serve.service import Service
from vlm4rec_search.serve.workers import Supervisor, listen, run_alone


def workers(folder: Path, parent: int) -> set[int]:
    """Return the processes that map the arrays of a release."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8").split()
    return {int(child) for child in children if str(folder) in _maps(child)}


def _maps(process: str) -> str:
    try:
        return Path(f"/proc/{process}/maps").read_text("utf-8")
    except OSError:  # it has ended
        return ""


@contextmanager
def begun_request(address: str, body: bytes) -> Iterator[Callable[[], bytes]]:
    """Yield what sends the rest of a request, whose body the service waits for, and returns the answer."""
    port = int(address.rsplit(":", 1)[1])
    head = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")

        def finish() -> bytes:
            connection.sendall(body)
            return connection.recv(100_000)

        yield finish


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    found = open_releases(str(tmp_path / "index"), ExplicitSettings())
    found.publish(labelled_tables("old"), meta(), False, False)
    return found


@contextmanager
def serving(workspace: Workspace) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Yield the supervisor of two workers that answer, and the address."""
    workspace.settings |= {"VLM4REC_ENCODER": ENCODER, "VLM4REC_RANKING": ""}
    process = workspace.start("vlm4rec", "serve", "--workers", "2", "--port", "0", "--follow", "0.2")
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = line.split("curl -s ")[1].split("/readyz")[0]
        folder = workspace.folder / "index" / "releases"
        wait_until(lambda: len(workers(folder, process.pid)) == 2)
        yield process, address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_workers_share_memory_are_replaced_and_answer_whole_meanwhile(workspace: Workspace, releases: Releases) -> None:
    answers, failures = set(), []
    ended = threading.Event()

    def ask(address: str) -> None:
        while not ended.is_set():
            try:  # a new connection each time, so that either worker may answer
                answer = httpx.post(f"{address}/v1/recommend", json={"user": "u1", "k": 5}, timeout=60).json()
                titles = {item["title"].split()[0] for item in answer["items"]}
                answers.add((answer["release"], "+".join(sorted(titles))))
            except httpx.TransportError as error:
                failures.append(error)

    labels = {str(releases.live()): "old"}
    with serving(workspace) as (process, address):
        asking = [threading.Thread(target=ask, args=(address,)) for _ in range(2)]
        for thread in asking:
            thread.start()
        try:
            folder = workspace.folder / "index" / "releases"
            before = workers(folder, process.pid)
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: len(workers(folder, process.pid) - {killed}) == 2)
            new = releases.publish(labelled_tables("new"), meta(), False, False).meta.name
            labels[new] = "new"
            wait_until(lambda: any(release == new for release, _ in list(answers)))
            wait_until(lambda: len(workers(arrays_folder(folder / f"{new}.duckdb"), process.pid)) == 2)
            counted = httpx.get(f"{address}/metrics", timeout=60).text
        finally:
            ended.set()
            for thread in asking:
                thread.join()
        final = httpx.get(f"{address}/metrics", timeout=60).text
        requests = re.findall(r'^vlm4rec_request_seconds_count\{endpoint="/v1/recommend".* (.+)$', final, re.MULTILINE)
        profiles = re.findall(r'^vlm4rec_retriever_seconds_count\{retriever="profile"\} (.+)$', final, re.MULTILINE)
        shown = re.search(r"<strong>([\d,]+)</strong>requests of programs", httpx.get(f"{address}/quality").text)
        with begun_request(address, b'{"user": "u1", "k": 5}') as finish:
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: len(workers(folder, process.pid)) < 2)  # the one without a request has ended
            assert finish().startswith(b"HTTP/1.1 200 OK")
    assert shown is not None, "the page tells the numbers of both workers"
    assert int(shown[1].replace(",", "")) == sum(map(float, requests)) > 0
    assert answers == set(labels.items())
    assert 0 <= float(profiles[0]) - sum(map(float, requests)) <= 4, "both workers, and answers that were cut off"
    assert len(failures) <= 4  # connections of the killed worker
    assert process.returncode == 0
    lines = counted.splitlines()
    assert len([line for line in lines if line.startswith("vlm4rec_release_age_seconds ")]) == 1
    (served,) = [line for line in lines if line.startswith("vlm4rec_answers_total{")]
    assert float(served.split()[-1]) > 2


def test_mapped_arrays_are_those_of_the_release(tmp_path: Path, releases: Releases) -> None:
    place = arrays_folder(tmp_path / "index" / "releases" / f"{releases.live()}.duckdb")
    place.write_text("in the way")  # as where the folder cannot be written: each process has its own copy
    for written in (False, True, True):
        with (
            closing(FollowedFolder(tmp_path / "index", shared=True)) as shared,
            closing(FollowedFolder(tmp_path / "index")) as alone,
        ):
            assert place.is_dir() == written
            for name in ("vectors", "fitted", "popularity"):
                assert (getattr(shared.opened.store, name) == getattr(alone.opened.store, name)).all()
            for name in ("postings", "neighbours", "ease"):
                assert (getattr(shared.opened.store, name) != getattr(alone.opened.store, name)).nnz == 0
            assert shared.opened.store.terms == alone.opened.store.terms
        if place.is_file():
            place.unlink()
        else:  # at last, as after a loss of power
            (place / "vectors.npy").write_bytes(b"")


def test_a_named_release_shares_its_memory_as_well(tmp_path: Path, releases: Releases) -> None:
    old = str(releases.live())
    releases.publish(labelled_tables("new"), meta(), False, False)
    settings = ExplicitSettings(index_url=str(tmp_path / "index"), encoder=ENCODER, served=tmp_path / "served")
    folder = arrays_folder(tmp_path / "index" / "releases" / f"{old}.duckdb")
    with Service(settings, 5.0, shared=True) as service:
        assert not folder.exists()
        service.reader(old)
        assert folder.is_dir()


def test_a_supervisor_that_ends_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvicorn.supervisors.multiprocess.SIGNALS", [])  # those of this process stay
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        Supervisor(uvicorn.Config("unused", workers=2), [listener]).terminate_all()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_process_that_is_asked_to_stop_ends_well(workspace: Workspace, releases: Releases, number: int) -> None:
    workspace.settings |= {"VLM4REC_ENCODER": ENCODER, "VLM4REC_RANKING": ""}
    process = workspace.start("vlm4rec", "serve", "--port", "0")
    assert process.stderr is not None
    address = process.stderr.readline().split("curl -s ")[1].split("/readyz")[0]
    wait_until(lambda: answers(address))
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, "Error" in told) == (0, False)


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=60).status_code == 200
    except httpx.TransportError:  # it has printed the address and does not listen yet
        return False


def test_an_idle_connection_outlives_that_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[uvicorn.Config] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: made.append(server.config))
    with listen("127.0.0.1", 0) as listener:
        run_alone(FastAPI(), listener)
    assert made[0].timeout_keep_alive > 60


def test_a_taken_port_is_an_error_that_says_what_to_do() -> None:
    with (
        listen("127.0.0.1", 0) as taken,
        pytest.raises(UsageError, match=r"cannot listen on 127.+ \(Address already in use\): choose another"),
    ):
        listen("127.0.0.1", taken.getsockname()[1])
