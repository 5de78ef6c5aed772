"""The transport of all HTTP calls: proxies of the environment, and errors as httpx names them."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.http import DeadlineTransport, deadline


class Echo(BaseHTTPRequestHandler):
    """Answers with the request target: a proxy is asked for a whole URL, a server for a path."""

    def do_GET(self) -> None:
        content = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def http_client(trust_env: bool) -> Iterator[httpx.Client]:
    with httpx.Client(transport=DeadlineTransport(httpx.Limits(), trust_env=trust_env)) as client:
        yield client


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.mark.parametrize("value", ["http://{}", "{}"])
def test_the_proxy_of_the_environment_is_used(echo: str, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", value.format(echo))
    with http_client(trust_env=True) as client:
        assert client.get("http://shop.invalid/a?b=1").text == "http://shop.invalid/a?b=1"


@pytest.mark.parametrize("value", ["127.0.0.1", "{}", "*"])
def test_no_proxy_names_servers_that_are_reached_directly(
    echo: str, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", value.format(echo))
    with http_client(trust_env=True) as client:
        assert client.get(f"http://{echo}/a").text == "/a"


def test_without_trust_in_the_environment_its_proxy_is_ignored(echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with http_client(trust_env=False) as client:
        assert client.get(f"http://{echo}/a").text == "/a"


@pytest.mark.parametrize(
    "value", ["proxy:80a", "ftp://user:secret@proxy:21", "http://user:secret@proxy:99999", "http://"]
)
def test_a_proxy_that_is_none_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(UsageError, match="HTTP_PROXY names no proxy: write http://HOST:PORT") as told:
        DeadlineTransport(httpx.Limits(), trust_env=True)
    assert "secret" not in str(told.value)


def test_a_socks_proxy_without_its_package_is_told_where_it_is_used(echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4rec_search.common.http.find_spec", lambda name: None)
    monkeypatch.setenv("all_proxy", "socks5://user:secret@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http_client(trust_env=True) as client:
        assert client.get(f"http://{echo}/a").text == "/a"
        with pytest.raises(UsageError, match=r"all_proxy names a SOCKS proxy, .* pip install socksio$"):
            client.get("http://shop.invalid/")


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("none", "no certificate|NO_CERTIFICATE")])
def test_certificates_that_cannot_be_read_are_told_with_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
) -> None:
    if content:
        (tmp_path / "own.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    with pytest.raises(UsageError, match=rf"SSL_CERT_FILE names no certificates that can be read \(.*({reason})"):
        DeadlineTransport(httpx.Limits(), trust_env=True)


def test_errors_are_those_of_httpx(echo: str) -> None:
    with http_client(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            client.get("http://127.0.0.1:9/")
        with pytest.raises(httpx.UnsupportedProtocol):
            client.get("ftp://127.0.0.1/")
        with deadline(0), pytest.raises(httpx.ConnectTimeout, match="no time left"):
            client.get(f"http://{echo}/")
        assert client.get(f"http://{echo}/").status_code == 200, "the deadline ends with its block"
