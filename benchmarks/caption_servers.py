"""Stub captioning servers in one process, with faults and a log; the benchmark and the tests of a fleet use them.

`python -m benchmarks.caption_servers '[{"seconds": 0.2, "slots": 4}]'` prints their URLs as a JSON list, and runs until
it is killed. `GET /log` of any of them returns the log of all.
"""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.request import urlopen

_TITLE = re.compile(rb'title: \\"(.*?)\\"')


@dataclass
class Stub:
    """How a server behaves. Times are in seconds.

    Attributes:
        seconds: duration of a call.
        slots: calls at once; further ones wait in the server.
        dies_at: number of the call at which it closes every connection and its port.
        busy_at, busy_for: number of the call from which on, and the time for which, it answers 503 at once.
        faulty_every: every so many calls one is answered with 500.
    """

    seconds: float = 0.02
    slots: int = 4
    dies_at: int = 0
    busy_at: int = 0
    busy_for: float = 0.0
    faulty_every: int = 0


@dataclass
class Log:
    """What a server did: its calls as (start, end, status, title), and when it was down as (from, to)."""

    calls: list[tuple[float, float, int, str]] = field(default_factory=list)
    down: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Fleet:
    """Running stub servers."""

    urls: list[str]
    stubs: list[Stub]

    @property
    def setting(self) -> str:
        """The value of VLM4REC_OPENAI_URL."""
        return ",".join(self.urls)

    def logs(self) -> list[Log]:
        """Return the log of each server."""
        for url in self.urls:
            try:
                with urlopen(f"{url}/log", timeout=60) as response:  # noqa: S310  our own address
                    return [Log(**log) for log in json.load(response)]
            except OSError:  # this one is dead
                continue
        raise RuntimeError("all servers are dead")

    def answers(self) -> Counter[str]:
        """Return how often each title was answered."""
        return Counter(title for log in self.logs() for *_, status, title in log.calls if status == 200)

    def busy_shares(self) -> list[float]:
        """Return the share of its capacity that each server was busy, then that of all of them.

        A server's capacity is its slots times the time in which it was up, from the first call of all until the last
        one began: after that the work runs out.
        """
        logs = self.logs()
        first = min(call[0] for log in logs for call in log.calls)
        last = max(call[0] for log in logs for call in log.calls)

        def within(start: float, end: float) -> float:
            return max(0.0, min(end, last) - max(start, first))

        pairs = [
            (
                sum(within(start, end) for start, end, *_ in log.calls),
                stub.slots * (last - first - sum(within(*times) for times in log.down)),
            )
            for log, stub in zip(logs, self.stubs, strict=True)
        ]
        shares = [busy / capacity if capacity else 1.0 for busy, capacity in pairs]
        return [*shares, sum(busy for busy, _ in pairs) / sum(capacity for _, capacity in pairs)]


@contextmanager
def serving_fleet(*stubs: Stub) -> Iterator[Fleet]:
    """Run the servers in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.caption_servers", json.dumps([asdict(stub) for stub in stubs])]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:  # noqa: S603
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield Fleet(json.loads(line), list(stubs))
        finally:
            process.kill()


class _Server:
    def __init__(self, stub: Stub, logs: list[Log], log: Log) -> None:
        self._stub, self._logs, self._log = stub, logs, log
        self._slots = asyncio.Semaphore(stub.slots)
        self._started, self._busy_until = 0, 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    async def start(self) -> str:
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener = await asyncio.start_server(self._serve, sock=listener, limit=1 << 22)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET"):
                    self._send(writer, 200, json.dumps([asdict(log) for log in self._logs]).encode())
                    continue
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                body = await reader.readexactly(int(length.split(b":")[1]))
                await self._answer(writer, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        stub = self._stub
        self._started += 1
        number = self._started
        if stub.dies_at and number >= stub.dies_at:
            self._die()
            return
        now = time.monotonic()
        if number == stub.busy_at:
            self._busy_until = now + stub.busy_for
            self._log.down.append((now, self._busy_until))
        if now < self._busy_until:
            self._send(writer, 503, b'{"error": {"message": "overloaded"}}')
            return
        async with self._slots:
            start = time.monotonic()
            await asyncio.sleep(stub.seconds)
            title = _TITLE.search(body)
            name = title[1].decode() if title else ""
            status = 500 if stub.faulty_every and number % stub.faulty_every == 0 else 200
            if writer.is_closing():
                return
            self._log.calls.append((start, time.monotonic(), status, name))
            choice = {"message": {"content": f"A red bag, {name}."}, "finish_reason": "stop"}
            answer = {"choices": [choice], "usage": {"prompt_tokens": 900, "completion_tokens": 7}}
            self._send(writer, status, json.dumps(answer).encode())

    def _send(self, writer: asyncio.StreamWriter, status: int, content: bytes) -> None:
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(content), content))

    def _die(self) -> None:
        if self._listener is not None and self._listener.is_serving():
            self._listener.close()
            self._log.down.append((time.monotonic(), float("inf")))
        for writer in self._writers:
            writer.transport.abort()


async def _run(stubs: list[Stub]) -> None:
    logs = [Log() for _ in stubs]
    servers = [_Server(stub, logs, log) for stub, log in zip(stubs, logs, strict=True)]
    print(json.dumps([await server.start() for server in servers]), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run([Stub(**stub) for stub in json.loads(sys.argv[1])]))
