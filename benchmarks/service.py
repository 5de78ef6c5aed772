"""`vlm4rec serve` with two workers beside one, and HTTP beside the same search in a process.

The load comes from a process of its own with 16 connections that each wait for their answer.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from benchmarks.measure import Contest, Value, no_costs
from benchmarks.search import DIMENSION, draw_tables
from vlm4rec_search.indexes import open_index
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.search.query import Query

CONNECTIONS, SEARCHES, USERS, SECONDS = 16, 40, 500, 5.0
HEADERS = {"content-type": "application/json"}


@contextmanager
def serving(folder: Path, workers: int) -> Iterator[int]:
    """Yield the port of a service over the release in a folder, once each worker has had time to open it."""
    options = ["--workers", str(workers), "--port", "0", "--index", str(folder / "index")]
    main = "from vlm4rec_search.cli import main; main()"
    with subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-c", main, "-q", "serve", *options],
        cwd=folder,
        env={**os.environ, "VLM4REC_ENCODER": "hashing-384"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stderr.readline() if process.stderr else ""
            port = int(line.rsplit(":", 1)[1].split("/")[0])
            load(port, 4.0, USERS)  # warms up, and waits for a worker that starts late
            yield port
        finally:
            process.send_signal(signal.SIGTERM)


def ask(connection: http.client.HTTPConnection, user: int) -> None:
    """Ask for ten items."""
    connection.request("POST", "/v1/recommend", json.dumps({"user": f"u{user:06d}"}), HEADERS)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(body)


def load(port: int, seconds: float, users: int) -> float:
    """Return answers in a second to connections that ask all the time."""
    end = time.monotonic() + seconds

    def work(number: int) -> int:
        connection, count = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
        while time.monotonic() < end:
            ask(connection, (number * 389 + count * 37) % users)
            count += 1
        return count

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return sum(threads.map(work, range(CONNECTIONS))) / seconds


def throughput(port: int, seconds: float, users: int) -> float:
    """Return answers in a second to a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(load, (port, seconds, users))


@contextmanager
def serving_http(documents: int) -> Iterator[Contest]:
    """Build a release in a temporary folder, and serve it twice, by one and by two workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        meta = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
        build_release(folder / "index", draw_tables(documents, USERS), meta)
        users = [number * 37 % USERS for number in range(SEARCHES)]
        with (
            serving(folder, 1) as one,
            serving(folder, 2) as two,
            open_index(str(folder / "index")) as index,
        ):
            contest = Contest(rounds=(3, 5), seconds=30.0)

            def over_http() -> None:
                connection = http.client.HTTPConnection("127.0.0.1", one, timeout=60)  # an idle one would be closed
                for user in users:
                    ask(connection, user)
                connection.close()

            contest.ours("over HTTP", over_http, per=SEARCHES, costs=no_costs)
            contest.rival(
                "in the process",
                lambda: lambda: [index.search(Query(user=f"u{user:06d}")) for user in users],
                ["over HTTP"],
                per=SEARCHES,
            )

            def loaded(port: int) -> Value:
                return Value(1.0 / throughput(port, SECONDS, USERS))

            contest.ours("two workers", lambda: loaded(two), costs=no_costs, warm=False)
            contest.rival(
                "one worker", lambda: lambda: loaded(one), ["two workers"], note="seconds for an answer", warm=False
            )
            yield contest
