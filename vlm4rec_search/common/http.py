"""A total time for each HTTP call: httpx bounds only silence, and a server that drips could hold a call for ever."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

_PIECE = 65536
_now = threading.local()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let everything that this thread asks of a `bounded` client inside of the block end within so many seconds.

    What comes too late is an `httpx.TimeoutException`. The name server's time counts, but cannot be cut short.
    """
    _now.until = time.monotonic() + seconds
    try:
        yield
    finally:
        _now.until = None


def bounded(client: httpx.Client) -> httpx.Client:
    """Return the client, whose connections, those through proxies as well, now keep to `deadline`."""
    # httpx has no public way to a connection's reads; tests with servers that drip hold these two names.
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = _Backend()
    return client


def _left(seconds: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    """Return the time that one step may take."""
    until: float | None = getattr(_now, "until", None)
    if until is None:
        return seconds
    left = until - time.monotonic()
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
        seconds = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, seconds, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[start : start + _PIECE], _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout, httpcore.ConnectTimeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
