"""A real HTTP proxy that can refuse, delay and cut off requests."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit


class Fault(NamedTuple):
    """A fault of one request: another answer, a delay, or a cut before or after the request reaches the server.

    Attributes:
        edit: returns what becomes of the body of the answer.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    cut: str = ""
    delay: float = 0.0
    edit: Callable[[bytes], bytes] = lambda answer: answer


Judge = Callable[[int, bytes], Fault | None]  # number of the judged request (from 0) and its body
Guard = Callable[[str | None], int]  # the Authorization header of a request; a status that refuses it, or 0


@contextmanager
def proxy(
    server: str,
    judge: Judge = lambda _number, _body: None,
    guard: Guard = lambda _authorization: 0,
    tls: ssl.SSLContext | None = None,
    judged: str = "/_bulk",
) -> Iterator[str]:
    """Yield the URL of a proxy in front of the server; it speaks TLS if it gets a context.

    Requests whose path ends with `judged` are judged; other requests are passed on.
    """
    numbers = iter(range(10**9))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fault = Fault(refused) if (refused := guard(self.headers["authorization"])) else None
            if self.path.split("?")[0].endswith(judged):
                with lock:
                    number = next(numbers)
                fault = judge(number, body)
            self.act(body, fault or Fault())

        def act(self, body: bytes, fault: Fault) -> None:
            time.sleep(fault.delay)
            if fault.cut == "before":
                self.close_connection = True
            elif fault.status:
                self.reply(fault.status, (("content-type", "text/html"), *fault.headers), b"<h1>no</h1>")
            else:
                status, kind, answer = self.forward(body)
                answer = fault.edit(answer)
                if fault.cut == "after":
                    self.close_connection = True
                else:
                    self.reply(status, (("content-type", kind),), answer)

        def forward(self, body: bytes) -> tuple[int, str, bytes]:
            connection = http.client.HTTPConnection(str(urlsplit(server).netloc), timeout=60)
            kinds = {"content-type": self.headers["content-type"]} if self.headers["content-type"] else {}
            connection.request(self.command, self.path, body, kinds)
            answer = connection.getresponse()
            forwarded = answer.status, answer.getheader("content-type") or "", answer.read()
            connection.close()
            return forwarded

        def reply(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def handle(self) -> None:
            with suppress(OSError):  # a client that leaves, or that does not trust the certificate
                super().handle()

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    front = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        front.socket = tls.wrap_socket(front.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{front.server_address[1]}"
    finally:
        front.shutdown()
        front.server_close()
