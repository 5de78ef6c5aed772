"""HTTP calls that end within a total time.

The timeouts of httpx limit each single read, so a server that sends one byte every few seconds could hold a call for
ever. `DeadlineTransport` gives each step of a call no more time than is left until the end of the `deadline` block.
"""

import os
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from vlm4rec_search.common.errors import UsageError, one_line

_WRITE_SIZE = 65536  # bytes between two looks at the clock
_PROXIED = ("http", "https", "all")  # the schemes for which the environment may name a proxy
_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_end: ContextVar[float | None] = ContextVar("end of the deadline block, as time.monotonic()", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit the total time of all calls in the block that go through a `DeadlineTransport`.

    A call that is not finished in time raises an `httpx.TimeoutException`. The time of a name lookup counts, but the
    lookup itself cannot be interrupted.
    """
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


class DeadlineTransport(httpx.BaseTransport):
    """A transport for `httpx.Client` whose connections keep to `deadline`.

    Args:
        limits: number of connections, as for `httpx.HTTPTransport`.
        trust_env: whether proxies (`HTTPS_PROXY`, `NO_PROXY` ...) are taken from the environment, as certificates
            (`SSL_CERT_FILE`, `SSL_CERT_DIR`) always are. httpx itself reads no proxies for a client that is given a
            transport.

    Raises:
        UsageError: a proxy or the certificates of the environment cannot be used; no message has the password of a
            proxy.
    """

    def __init__(self, limits: httpx.Limits, trust_env: bool) -> None:
        self._limits = limits
        self._ssl = _ssl_context()
        named = getproxies() if trust_env else {}
        proxies = {name: _parse_proxy(name, url) for name, url in named.items() if url and name in _PROXIED}
        self._socks = {name for name, proxy in proxies.items() if proxy.url.scheme.startswith("socks")}
        self._direct = self._pool(None)
        self._proxied = {name: self._pool(proxy) for name, proxy in proxies.items()}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its response, whose body is not read yet.

        Raises:
            UsageError: the proxy needs a package that is not installed.
            httpx.TransportError: the request fails.
        """
        url = request.url
        call = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _httpx_errors():
            answer = self._pool_for(url).handle_request(call)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        """Close every connection."""
        for pool in (self._direct, *self._proxied.values()):
            pool.close()

    def _pool_for(self, url: httpx.URL) -> httpcore.ConnectionPool:
        name = url.scheme if url.scheme in self._proxied else "all"
        host = f"{url.host}:{url.port}" if url.port else url.host
        if name not in self._proxied or proxy_bypass(host):
            return self._direct
        if name in self._socks and find_spec("socksio") is None:
            raise UsageError(f"{_variable(name)} names a SOCKS proxy, which needs a package: pip install socksio")
        return self._proxied[name]

    def _pool(self, parsed: httpx.Proxy | None) -> httpcore.ConnectionPool:
        proxy = None
        if parsed:
            proxy = httpcore.Proxy(str(parsed.url), auth=parsed.raw_auth, headers=parsed.headers.raw)
        return httpcore.ConnectionPool(
            ssl_context=self._ssl,
            proxy=proxy,
            max_connections=self._limits.max_connections,
            max_keepalive_connections=self._limits.max_keepalive_connections,
            keepalive_expiry=self._limits.keepalive_expiry,
            network_backend=_Backend(),
        )


def _ssl_context() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # SSLError is one
        name = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
        reason = one_line(error.strerror or error)
        raise UsageError(f"{name} names no certificates that can be read ({reason}): correct or unset it") from None


def _parse_proxy(name: str, url: str) -> httpx.Proxy:
    """Return the proxy for a scheme, or `all`."""
    proxy = None
    with suppress(httpx.InvalidURL, ValueError):
        proxy = httpx.Proxy(url if "://" in url else f"http://{url}")
    if proxy is None or not proxy.url.host or not 0 < (proxy.url.port or 1) < 65536:
        raise UsageError(
            f"{_variable(name)} names no proxy: write http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
        )
    return proxy


def _variable(name: str) -> str:
    """Return the variable that names the proxy for a scheme, or for `all`."""
    variable = f"{name}_proxy"
    return variable if os.environ.get(variable) else variable.upper()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise each error of httpcore as the error of the same name in httpx."""
    try:
        yield
    except _ERRORS as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


def _time_left(seconds: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    """Return the timeout of one step: `seconds`, or less when the deadline comes first; None means no timeout."""
    end = _end.get()
    if end is None:
        return seconds
    left = end - time.monotonic()
    if left <= 0:
        raise late("no time left")
    return left if seconds is None else min(seconds, left)


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        seconds = _time_left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, seconds, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _time_left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_SIZE):
            self._stream.write(buffer[start : start + _WRITE_SIZE], _time_left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = _time_left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
