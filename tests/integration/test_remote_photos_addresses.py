"""The address guard: no URL of a catalogue reaches an address inside a network."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.image_server import ImageServer, locate_served, photo_status, serve_images

from vlm4rec_search.datasets.photos.fetch import is_refused

NAME = "shop.example"


@pytest.fixture
def shop() -> Iterator[str]:
    with serve_images() as url:
        yield url


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Addresses of `NAME`: each answer of the name server takes the first list; a test appends the lists."""
    answers: list[list[str]] = []
    real = socket.getaddrinfo

    def answer(host: Any, port: Any, *options: Any, **more: Any) -> Any:
        if host != NAME:
            return real(host, port, *options, **more)
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(kinds[":" in ip], socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answers.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return answers


def named(shop: str) -> str:
    return shop.replace("localhost", NAME)


def test_the_connection_goes_to_the_checked_address(tmp_path: Path, shop: str, names: list[list[str]]) -> None:
    """The guard does not resolve the name a second time, when the answer leads inside a cloud."""
    names += [["127.0.0.1"], ["169.254.169.254"]]
    assert photo_status(locate_served(tmp_path, f"{named(shop)}/good.png")[0]) == "ok"
    assert names == [["169.254.169.254"]]
    assert ImageServer.requests == [(NAME, "/good.png")], "the request has the name of the host"


def test_every_redirect_is_resolved_and_checked_again(tmp_path: Path, shop: str, names: list[list[str]]) -> None:
    names += [["127.0.0.1"], ["169.254.169.254"]]
    assert photo_status(locate_served(tmp_path, f"{named(shop)}/to//good.png")[0]) == "blocked"
    assert ImageServer.requests == [(NAME, "/to//good.png")]


def test_one_bad_address_among_good_ones_blocks_the_host(tmp_path: Path, shop: str, names: list[list[str]]) -> None:
    names += [["127.0.0.1", "169.254.169.254"]]
    assert photo_status(locate_served(tmp_path, f"{named(shop)}/good.png")[0]) == "blocked"
    assert ImageServer.requests == []


def test_the_next_address_is_called_if_the_first_does_not_answer(
    tmp_path: Path, shop: str, names: list[list[str]]
) -> None:
    names += [["::1", "127.0.0.1"], ["::1"]]  # the server listens only on the second address
    assert photo_status(locate_served(tmp_path, f"{named(shop)}/good1.png")[0]) == "ok"
    assert photo_status(locate_served(tmp_path, f"{named(shop)}/good2.png")[0]) == "unreachable"
    assert ImageServer.requests == [(NAME, "/good1.png")]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_addresses_inside_a_network_are_not_called(tmp_path: Path, shop: str, host: str) -> None:
    (file,) = locate_served(tmp_path, f"{shop.replace('localhost', host)}/good.png", allow_private=False)
    assert photo_status(file) == "blocked"
    assert ImageServer.requests == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1"])
def test_odd_notations_of_addresses_are_refused(tmp_path: Path, shop: str, host: str) -> None:
    (file,) = locate_served(tmp_path, f"{shop.replace('localhost', host)}/good.png", allow_private=False)
    assert photo_status(file) in ("blocked", "unreachable")  # some resolvers do not know these notations
    assert ImageServer.requests == []


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
        ("168.63.129.16", False, False),
        ("100.100.100.200", False, False),
        ("192.0.0.192", False, False),
        ("::ffff:168.63.129.16", False, False),
        ("fd00:ec2::254", False, False),
        ("fd20:ce::254", False, False),
        ("fec0::1", False, False),
        ("64:ff9b:1::a9fe:a9fe", False, False),
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
