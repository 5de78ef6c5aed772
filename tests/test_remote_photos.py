"""Photos behind URLs: fetched once from a real server, within limits, and never from inside a network."""

import gzip
import io
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from PIL import Image

from vlm4rec_search import remote_photos
from vlm4rec_search.cache import Cache
from vlm4rec_search.fills import Effort
from vlm4rec_search.photo_files import Found, Remote, find
from vlm4rec_search.photos import read
from vlm4rec_search.remote_photos import is_refused


def png(width: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, 4), "red").save(content, "PNG")
    return content.getvalue()


class Shop(BaseHTTPRequestHandler):
    """A shop's image server with every fault; it notes which host was asked for which path."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.asked.append((self.headers["Host"].split(":")[0], path))
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
        if path in ("/hang.png", "/drip.png"):
            return self.slowly(0.7 if path == "/hang.png" else 0.0)
        return self.answer(*((200, png(7)) if path.startswith("/good") else (404, b"")), kind="image/png")

    def answer(self, status: int, body: bytes, location: str = "", kind: str = "image/png", encoding: str = "") -> None:
        self.send_response(status)
        given = {"Location": location, "Content-Type": kind, "Content-Encoding": encoding}
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

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    Shop.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def found(folder: Path, *images: str, allow: bool = True, **effort: object) -> list[Found]:
    with Cache(folder / "cache") as cache:
        return find(images, folder, cache, Remote(Effort(**effort), allow))  # type: ignore[arg-type]


def status(one: Found) -> str:
    return one.error.status if one.error else "ok"


def test_a_photo_is_fetched_once_and_read_like_any_other(tmp_path: Path, shop: str) -> None:
    url = f"{shop}/good.png?size=1"
    first, same = found(tmp_path, url, f" {url} ")
    assert read(first).image.size == (7, 4)
    assert first == same == found(tmp_path, url, limit=0)[0]
    assert Shop.asked == [("localhost", "/good.png")], "the server is asked by the host's name, once"
    assert first.path is not None
    first.path.unlink()
    assert status(found(tmp_path, url, limit=0)[0]) == "pending"
    assert status(found(tmp_path, url)[0]) == "ok", "what was lost from the cache is fetched again"


def test_only_so_many_are_fetched_and_failures_are_remembered(tmp_path: Path, shop: str) -> None:
    urls = [f"{shop}/{name}.png" for name in ("good1", "absent", "good2")]
    assert [status(one) for one in found(tmp_path, *urls, limit=2)] == ["ok", "unreachable", "pending"]
    again = found(tmp_path, *urls, failed=False)
    assert [status(one) for one in again] == ["ok", "unreachable", "ok"]
    assert sorted(path for _, path in Shop.asked) == ["/absent.png", "/good1.png", "/good2.png"]
    assert str(again[1].error) == "the server answers 404"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/absent.png", "unreachable"),
        ("/loop", "unreachable"),
        ("/html.jpg", "wrong_type"),
        ("/drawing.svg", "wrong_type"),
        ("/zipped.png", "wrong_type"),
        ("/big.png", "too_large"),
        ("/hang.png", "unreachable"),
        ("/drip.png", "unreachable"),
        ("/to//good.png", "ok"),
        ("/to/ftp://shop.example/a.png", "blocked"),
        ("/to/http://169.254.169.254/latest/meta-data", "blocked"),
    ],
)
def test_limits_hold(tmp_path: Path, shop: str, monkeypatch: pytest.MonkeyPatch, path: str, expected: str) -> None:
    monkeypatch.setattr(remote_photos, "MAX_BYTES", 4000)
    if path in ("/hang.png", "/drip.png"):
        monkeypatch.setattr(remote_photos, "STEP_SECONDS", 0.4)
        monkeypatch.setattr(remote_photos, "SECONDS", 0.6)
    assert status(found(tmp_path, shop + path)[0]) == expected
    assert len(Shop.asked) <= 1 + remote_photos.REDIRECTS


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_addresses_inside_a_network_are_not_called(tmp_path: Path, shop: str, host: str) -> None:
    (one,) = found(tmp_path, f"{shop.replace('localhost', host)}/good.png", allow=False)
    assert status(one) in ("blocked", "unreachable")  # a resolver may not know the odd notations at all
    assert Shop.asked == []


@pytest.mark.parametrize(
    "url", ["ftp://shop.example/a.jpg", "http://user:secret@localhost/a.jpg", "file:///etc/passwd"]
)
def test_other_schemes_and_user_names_are_blocked(tmp_path: Path, url: str) -> None:
    (one,) = found(tmp_path, url)
    assert status(one) == "blocked"
    assert "secret" not in str(one.error)


@pytest.mark.parametrize("url", ["http://", "http://nowhere.invalid/a.jpg", "http://[::zz]/a.jpg", "http://a b/c.jpg"])
def test_urls_that_lead_nowhere_are_told(tmp_path: Path, url: str) -> None:
    assert status(found(tmp_path, url)[0]) in ("unreachable", "blocked")


@pytest.mark.parametrize(
    ("address", "public", "private_allowed"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1::1", True, True),
        ("10.1.2.3", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fd00::1", False, True),
        ("100.64.0.1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("2002:0a00:0001::", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::7f00:1", False, False),
        ("0.0.0.0", False, False),  # noqa: S104
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
    ],
)
def test_only_public_addresses_are_called(address: str, public: bool, private_allowed: bool) -> None:
    assert (not is_refused(address, False), not is_refused(address, True)) == (public, private_allowed)
