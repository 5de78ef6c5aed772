"""What is refused before a request reaches the service: a body that is too large or not whole, an unknown name."""

import asyncio
import itertools
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive, Scope, Send

from vlm4rec_search.serve.app import BodyLimit
from vlm4rec_search.serve.hosts import HostCheck, is_of_service, known_hosts, name_in_url


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def send_body(parts: Iterable[Message], path: str = "/v1/recommend") -> tuple[list[bytes], int | None]:
    """Send a body in parts through the limit; return the bodies that reached the application, and the status."""
    reached, sent, waiting = list[bytes](), list[Message](), iter(parts)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append((await receive())["body"])

    async def receive() -> Message:
        return next(waiting)

    async def send(message: Message) -> None:
        sent.append(message)

    limit = BodyLimit(application, 10, {"/v1/search": 12}, cut={"/by-photo": 25})
    asyncio.run(limit({"type": "http", "path": path}, receive, send))
    return reached, sent[0]["status"] if sent else None


def test_a_body_reaches_the_application_whole_or_not_at_all() -> None:
    assert send_body([part(b"rules", True), part(b": []", False)]) == ([b"rules: []"], None)
    assert send_body([part(b"rules", True), {"type": "http.disconnect"}]) == ([], 400)
    assert send_body([part(b"rules", True), part(b"rules: []", True)]) == ([], 413)
    assert send_body([part(b"twelve bytes", False)]) == ([], 413)
    assert send_body([part(b"twelve bytes", False)], "/v1/search") == ([b"twelve bytes"], None)
    large = [part(b"twelve bytes", True), part(b"and more", True), part(b"", False)]
    assert send_body(large, "/by-photo") == ([b"twelve byt"], None)
    assert send_body(itertools.repeat(part(b"twelve bytes", True)), "/by-photo") == ([], 413)


def test_loopback_has_few_names_and_other_addresses_those_that_are_given() -> None:
    loopback = frozenset({"localhost", "127.0.0.1", "[::1]"})
    assert known_hosts("127.0.0.1", ()) == known_hosts("localhost", ()) == known_hosts("::1", ()) == loopback
    assert known_hosts("127.0.0.1", ["Shop.example"]) == loopback | {"shop.example"}
    assert known_hosts("127.0.0.1", ["shop.example:8443"]) == loopback | {"shop.example"}
    assert known_hosts("127.0.0.1", ["*"]) is None
    assert [name_in_url(host) for host in ("::1", "localhost")] == ["[::1]", "localhost"]
    assert known_hosts("0.0.0.0", ()) is None  # noqa: S104
    assert known_hosts("10.0.0.5", ["shop.example"]) == loopback | {"10.0.0.5", "shop.example"}


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://10.0.0.5:8000", "10.0.0.5:8000", True),
        ("https://shop.example", "10.0.0.5:8000", True),
        ("https://Shop.example:8443", "10.0.0.5:8000", True),
        ("https://shop.example:444", "10.0.0.5:8000", False),
        ("http://10.0.0.5:9999", "10.0.0.5:8000", False),
        ("http://localhost", "10.0.0.5:8000", False),
        ("null", "", False),
        ("null", "null", False),
    ],
)
def test_a_form_is_of_the_service_under_its_host_or_an_allowed_name_with_its_port(
    origin: str, host: str, expected: bool
) -> None:
    assert is_of_service(origin, host, ["shop.example", "shop.example:8443"]) == expected


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", None),
        (b"LOCALHOST:8000", None),
        (b"127.0.0.1:8000", None),
        (b"[::1]:8000", None),
        (b"[::1]", None),
        (b"evil.example", 400),
        (b"127.0.0.1.evil.example:8000", 400),
        (b"localhost:8000@evil.example", 400),
        (b"", 400),
    ],
)
def test_a_request_under_another_name_is_refused(host: bytes, status: int | None) -> None:
    reached, sent = list[Scope](), list[Message]()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)

    async def receive() -> Message:
        return part(b"", False)

    async def send(message: Message) -> None:
        sent.append(message)

    check = HostCheck(application, known_hosts("127.0.0.1", ()) or ())
    asyncio.run(check({"type": "http", "headers": [(b"host", host)]}, receive, send))
    assert ([message["status"] for message in sent[:1]], len(reached)) == (([], 1) if status is None else ([400], 0))
