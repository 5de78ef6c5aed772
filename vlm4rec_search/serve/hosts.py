"""The names under which the service answers: a page elsewhere whose name is made to point here cannot read it."""

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vlm4rec_search.serve.problems import problem

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:]*)(?::\d*)?")  # a name or an address, perhaps with a port


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def name_in_url(host: str) -> str:
    """Return a name or an address as it stands in a URL: an address of IPv6 has brackets."""
    return f"[{host}]" if ":" in host else host


def known_hosts(host: str, allowed: Collection[str]) -> frozenset[str] | None:
    """Return the names that the Host header of a request may have, in lower case; None allows all.

    Args:
        host: the address to listen on. One that other machines can reach has names that only its owner knows: where
            `allowed` names none, all are allowed.
        allowed: further names, perhaps with a port, which does not count here; `*` allows all.
    """
    if "*" in allowed or not (allowed or is_loopback(host)):
        return None
    further = (found[1] if (found := _HOST.fullmatch(name)) else name for name in allowed)
    return frozenset(name.lower() for name in (*_LOOPBACK, name_in_url(host), *further))


def is_of_service(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Return whether the Origin header of a form names this service: as the Host header does, or by an allowed name.

    A proxy in front may send a Host header of its own. The names of this machine are not enough, and no other port is:
    another program of it may show pages as well.

    Args:
        origin: such as https://shop.example, or `null`, which names nothing.
        host: the Host header.
        allowed: names, with the port where the address of the page has one.
    """
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and (place == host or place.lower() in {name.lower() for name in allowed})


class HostCheck:
    """Refuses a request whose Host header has another name than the service."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        """Guard an application; see `known_hosts`."""
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            name = _HOST.fullmatch(host)
            if name is None or name[1].lower() not in self._names:
                detail = f"the service has no name {host[:100]!r}: if it is one, start it with --allowed-host NAME"
                await problem(400, detail)(scope, receive, send)
                return
        await self._app(scope, receive, send)
