"""A real HTTP server with the chat completions of OpenAI that misbehaves as a test prescribes."""

import base64
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Lock, Thread
from typing import Any

from PIL import Image

from vlm4rec_search.captioning.captioners.openai.canary import COLOURS, QUESTION

USAGE = {"prompt_tokens": 30, "completion_tokens": 7}


@dataclass
class Reply:
    """The response to one request.

    Attributes:
        delay: seconds before the response.
        cut: whether the body ends half-way, although the header announces its full length.
        drip: seconds between the bytes of head and body; 0 to send everything at once.
    """

    status: int = 200
    body: dict[str, Any] | str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    drip: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether the client receives a complete answer."""
        return self.status == 200 and isinstance(self.body, dict) and not self.cut and self.delay < HANG


HANG = 60.0
"""A delay in seconds that is longer than the timeout of any test."""


def answer(text: str | None, finish: str = "stop", **message: Any) -> Reply:
    """Return a chat completion with this text."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return Reply(body={"id": "1", "object": "chat.completion", "choices": [choice], "usage": USAGE})


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """Return an error of the API."""
    return Reply(status, {"error": {"message": message, "code": code}}, headers)


Behaviour = Callable[[str, int], Reply]
"""Maps the title in the prompt and the number of earlier requests for it to a response."""


@dataclass
class CaptionServer:
    """The record of all requests: their times, titles, bodies and headers, and the most requests in flight."""

    behave: Behaviour
    url: str = ""
    calls: list[tuple[float, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    most_in_flight: int = 0
    blind: str | None = None
    """What the model says of a drawn picture that it cannot see; None for a model that sees."""
    canaries: list[str] = field(default_factory=list)
    """The answers to the question about the drawn picture, which are no calls for an item."""
    _in_flight: int = 0
    _lock: Lock = field(default_factory=Lock)

    def reply(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        text = body["messages"][0]["content"][1]["text"]
        if text == QUESTION:
            self.canaries.append(self.canary(body["messages"][0]["content"][0]["image_url"]["url"]))
            return answer(self.canaries[-1])
        match = re.search(r'title: "(.*)"', text)
        title = match.group(1) if match else ""
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            earlier = self.requests[title]
            self.requests[title] += 1
            self.calls.append((time.monotonic(), title))
            self.bodies.append(body)
            self.headers.append(headers)
        reply = self.behave(title, earlier)
        if reply.delay < HANG:
            time.sleep(reply.delay)
        with self._lock:  # a hanging request no longer counts as in flight: the client abandons it unnoticed
            self._in_flight -= 1
            self.answers[title] += reply.is_complete
        if reply.delay >= HANG:
            time.sleep(reply.delay)
        return reply

    def canary(self, url: str) -> str:
        if self.blind is not None:
            return self.blind
        picture = Image.open(BytesIO(base64.b64decode(url.split(",")[1])))
        seen = [picture.getpixel((picture.width // 2, height)) for height in (10, picture.height - 10)]
        return " and ".join(
            min(COLOURS, key=lambda name: math.dist(COLOURS[name], colour))
            for colour in seen  # type: ignore[arg-type]
        )

    def times(self, title: str) -> list[float]:
        """Return the times of the requests for an item."""
        return [moment for moment, name in self.calls if name == title]


@contextmanager
def serving(behave: Behaviour) -> Iterator[CaptionServer]:
    """Run a server on a free port and yield its record."""
    state = CaptionServer(behave)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(state.reply(body, {name.lower(): value for name, value in self.headers.items()}))

        def _send(self, reply: Reply) -> None:
            content = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
            if reply.drip:
                return self._drip(b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 500 + b"\r\n\r\n" + content, reply.drip)
            self.send_response(reply.status)
            for name, value in {**reply.headers, "content-length": str(len(content))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if reply.cut else content)
            self.close_connection = reply.cut
            return None

        def _drip(self, content: bytes, wait: float) -> None:
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(wait)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # the client gave up
                super().handle()

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield state
        server.shutdown()
