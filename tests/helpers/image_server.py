"""The image server of a shop with every fault, and a look at the photos it serves."""

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar

from helpers.photo_bytes import png
from vlm4rec_search.common.cache import Cache, FillPolicy
from vlm4rec_search.datasets.photos.decode import PhotoFile
from vlm4rec_search.datasets.photos.locate import FetchPolicy, locate_photos


class ImageServer(BaseHTTPRequestHandler):
    """The image server of a shop with every fault; it records host and path of each request."""

    requests: ClassVar[list[tuple[str, str]]] = []
    responses: ClassVar[dict[str, tuple[str, bytes]]] = {}
    """Content type and bytes by path, as a test puts them there."""
    busy: ClassVar[dict[str, list[tuple[int, str]]]] = {}
    """Status and Retry-After of the first answers by path, as a test puts them there."""
    awaited: ClassVar[dict[str, Event]] = {}
    """What an answer waits for, by path; without it the photo is absent."""
    accepted: ClassVar[list[str]] = []
    """The header Accept of each request."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.accepted.append(self.headers["Accept"])
        self.requests.append((self.headers["Host"].split(":")[0], path))
        if path in self.awaited and not self.awaited[path].wait(25.0):
            return self.answer(404, b"")
        if self.busy.get(path):
            status, after = self.busy[path].pop(0)
            return self.answer(status, b"busy", after=after)
        if path in self.responses:
            return self.answer(200, self.responses[path][1], kind=self.responses[path][0])
        if path.startswith("/loop"):
            return self.answer(302, b"", location="/loop")
        if path.startswith("/to/"):
            return self.answer(302, b"", location=path.removeprefix("/to/"))
        if path == "/html.jpg":
            return self.answer(200, b"<html>", kind="text/html; charset=utf-8")
        if path == "/drawing.svg":
            return self.answer(200, b"<svg/>", kind="image/svg+xml")
        if path == "/zipped.png":
            return self.answer(200, gzip.compress(png(5)), encoding="gzip")
        if path == "/big.png":
            return self.answer(200, b"x" * 5000)
        if path == "/crawl.png":
            return self.crawl()
        if path in ("/hang.png", "/drip.png"):
            return self.slowly(0.7 if path == "/hang.png" else 0.0)
        return self.answer(*((200, png(7)) if path.startswith("/good") else (404, b"")), kind="image/png")

    def answer(
        self, status: int, body: bytes, location: str = "", kind: str = "image/png", encoding: str = "", after: str = ""
    ) -> None:
        self.send_response(status)
        given = {"Location": location, "Content-Type": kind, "Content-Encoding": encoding, "Retry-After": after}
        for name, value in given.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def slowly(self, wait: float) -> None:
        time.sleep(wait)
        self.send_response(200)
        self.end_headers()
        for _ in range(30):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def crawl(self) -> None:
        """Send a head that takes a minute and a half, byte by byte."""
        with suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 2000:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serve_images() -> Iterator[str]:
    """Run the shop on a free port of 127.0.0.1 and yield its URL."""
    ImageServer.requests.clear()
    ImageServer.responses.clear()
    ImageServer.busy.clear()
    ImageServer.awaited.clear()
    ImageServer.accepted.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), ImageServer) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def locate_served(folder: Path, *images: str, allow_private: bool = True, **policy: object) -> list[PhotoFile]:
    """Locate photos through a cache in the folder, fetching those that a `FillPolicy` with these fields allows."""
    with Cache(folder / "cache") as cache:
        fetching = FetchPolicy(FillPolicy(**policy), allow_private)  # type: ignore[arg-type]
        return locate_photos(images, folder, cache, fetching)


def photo_status(file: PhotoFile) -> str:
    """Return ok, or the status of the failure."""
    return file.failure.status if file.failure else "ok"
