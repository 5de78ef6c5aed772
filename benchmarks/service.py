"""Throughput of `vlm4rec serve` with two workers against one, and what HTTP adds: `python -m benchmarks.service`.

The load comes from a process of its own with 16 connections that each wait for their answer. The services run one after
another, twice, on the same release (40,000 documents x 384, 5,000 users by default), so that the ratios of one run can
be compared. The load average says how busy the machine was with other work.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from benchmarks.search import DIMENSION, draw_tables
from vlm4rec_search.indexes import open_index
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.search.query import Query

CONNECTIONS, SEARCHES = 16, 300
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
            load(port, 10.0, 1_000)  # warms up, and waits for a worker that starts late
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


def measure_overhead(folder: Path, port: int, users: int) -> tuple[float, float]:
    """Return p50 in milliseconds of a search in this process, and of the same search over HTTP, by turns."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    inside, over_http = [], []
    with open_index(str(folder / "index")) as index:
        for number in range(SEARCHES):
            user = number * 37 % users
            started = time.perf_counter()
            index.search(Query(user=f"u{user:06d}"))
            between = time.perf_counter()
            ask(connection, user)
            inside.append(between - started)
            over_http.append(time.perf_counter() - between)
    return 1000 * statistics.median(inside), 1000 * statistics.median(over_http)


def main() -> None:
    """Build a release in a temporary folder, serve it, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    sizes = parser.parse_args()
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        meta = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
        build_release(folder / "index", draw_tables(sizes.documents, sizes.users), meta)
        print(f"{sizes.documents:,} documents x {DIMENSION}, {sizes.users:,} users, {os.cpu_count()} cores", flush=True)
        for workers in (1, 2, 1, 2):
            with serving(folder, workers) as port:
                if workers == 1:
                    inside, over_http = measure_overhead(folder, port, sizes.users)
                    print(f"p50 in the process {inside:.2f} ms, over HTTP {over_http:.2f} ms", flush=True)
                rates[workers].append(throughput(port, sizes.seconds, sizes.users))
                busy = ", ".join(f"{value:.1f}" for value in os.getloadavg())
                print(f"{workers} workers: {rates[workers][-1]:.0f} answers/s (load average {busy})", flush=True)
    ratio = statistics.mean(rates[2]) / statistics.mean(rates[1])
    print(f"two workers give {ratio:.2f} times one")


if __name__ == "__main__":
    main()
