"""Photos behind http(s) URLs, fetched once into the cache; no URL of a catalogue reaches the inside of a network.

A host is resolved here, every address that it resolves to is judged, and the connection goes to the judged address, so
that a second answer of the name server cannot lead elsewhere. The same holds for each redirect. Proxies of the
environment are not used, since a proxy would resolve the name once more.
"""

import hashlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx

from vlm4rec_search.common.cache.cache import Cache, Result, result_key
from vlm4rec_search.common.cache.policy import Effort, PendingError
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.http import DeadlineTransport, deadline
from vlm4rec_search.datasets.photos.decode import MAX_BYTES, PhotoError

# Which IP addresses a URL of a catalogue may lead to: none inside of a network unless that is allowed.

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NEVER = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host
        "100.100.100.200/32",  # Alibaba's metadata
        "192.0.0.192/32",  # Oracle's metadata
        "fd00:ec2::/32",  # Amazon's metadata, DNS and time over IPv6
        "fd20:ce::/32",  # Google's metadata over IPv6
        "fec0::/10",  # site-local, deprecated
        "64:ff9b::/96",  # IPv4 behind a translator
        "64:ff9b:1::/48",  # likewise
    )
]
"""Networks where no photo is, though some of them count as private or even as public. The metadata service of most
clouds, 169.254.169.254, is link-local."""


def is_refused(address: str, allow_private: bool) -> bool:
    """Say whether an IP address must not be called: only public ones may, and private ones and loopback if allowed."""
    ip: Address = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    if ip.is_loopback:
        return not allow_private
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return True
    if any(ip in network for network in _NEVER):
        return True
    return not ip.is_global and not allow_private


def resolved(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host, as the name server orders them.

    Raises:
        OSError, UnicodeError: there is no such host.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


REDIRECTS = 5
SECONDS, STEP_SECONDS = 30.0, 10.0  # for one photo in all, and for connecting or any one read
IN_FLIGHT = 16
_UNTYPED = ("application/octet-stream", "binary/octet-stream")  # what object stores say of files without a type


def fetch_photos(urls: Sequence[str], cache: Cache, allow_private: bool, effort: Effort) -> list[Path | Exception]:
    """Return the file of each URL in the cache, fetching what is missing as far as `effort` allows.

    An exception is the reason why there is no file, as in `Cache.fill`; a `PhotoError` has the status blocked (an
    address or URL that must not be called), unreachable, too_large (`MAX_BYTES`) or wrong_type.

    Raises:
        RunError: the cache cannot be used.
    """
    folder = cache.folder / "photos"
    keys = [photo_key(url) for url in urls]
    lost = {key for key, digest in cache.read(list(set(keys))) if not _file(folder, digest).is_file()}
    with _client() as client:

        def compute(positions: Sequence[int]) -> list[Result]:
            return [_stored(client, urls[position], folder, allow_private) for position in positions]

        asked = replace(effort, again=lost | set(effort.again), workers=IN_FLIGHT)
        filled = cache.fill(
            "photo",
            "http",
            keys,
            compute,
            batch_size=1,
            label="photos fetched",
            recorded=effort.limit != 0,
            paid=True,
            effort=asked,
        )
    files = [_file(folder, value) if isinstance(value, bytes) else value for value in filled.values]
    return [PendingError() if isinstance(file, Path) and not file.is_file() else file for file in files]


def photo_key(url: str) -> str:
    """Return the cache key of the photo behind a URL."""
    return result_key("url", url)


def fetch(client: httpx.Client, url: str, allow_private: bool) -> bytes:
    """Return the bytes behind a URL.

    Raises:
        PhotoError: blocked, unreachable, too_large or wrong_type.
    """
    try:
        with deadline(SECONDS):
            return _followed(client, httpx.URL(url), allow_private)
    except httpx.TimeoutException:
        told = f"no answer within {STEP_SECONDS:g} seconds, or not all of it within {SECONDS:g}"
        raise PhotoError("unreachable", told) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise PhotoError("unreachable", f"the photo cannot be fetched: {error or type(error).__name__}") from None


def _followed(client: httpx.Client, target: httpx.URL, allow_private: bool) -> bytes:
    for _ in range(REDIRECTS + 1):
        with _answer(client, target, allow_private) as response:
            if not response.has_redirect_location:
                return _content(response)
            target = target.join(response.headers["location"])
    raise PhotoError("unreachable", f"more than {REDIRECTS} redirects")


@contextmanager
def _client() -> Iterator[httpx.Client]:
    # No connection is kept: another host on the same address must show a certificate of its own.
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=0)
    headers = {"User-Agent": "vlm4rec-search", "Accept": "image/*", "Accept-Encoding": "identity"}
    transport = DeadlineTransport(limits, trust_env=False)
    with httpx.Client(transport=transport, trust_env=False, timeout=STEP_SECONDS, headers=headers) as client:
        yield client


@contextmanager
def _answer(client: httpx.Client, url: httpx.URL, allow_private: bool) -> Iterator[httpx.Response]:
    """Ask a judged address of the URL's host for it; name and certificate are those of the host."""
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise PhotoError("blocked", "only http and https URLs with a host and without a user name are fetched")
    host = url.raw_host.decode("ascii")
    addresses = _judged(host, url.port or (443 if url.scheme == "https" else 80), allow_private)
    response = _asked(client, url, host, addresses)
    try:
        yield response
    finally:
        response.close()


def _asked(client: httpx.Client, url: httpx.URL, host: str, addresses: Sequence[str]) -> httpx.Response:
    """Send the request to the first address that a connection can be made to."""
    headers, extensions = {"Host": url.netloc.decode("ascii")}, {"sni_hostname": host}
    for last, address in enumerate(addresses, 1):
        request = client.build_request("GET", url.copy_with(host=address), headers=headers, extensions=extensions)
        try:
            return client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if last == len(addresses):
                raise
    raise PhotoError("unreachable", f"{host} has no address")


def _judged(host: str, port: int, allow_private: bool) -> list[str]:
    try:
        addresses = resolved(host, port)
    except (OSError, UnicodeError):
        raise PhotoError("unreachable", f"there is no host {host}") from None
    if any(is_refused(address, allow_private) for address in addresses):
        hint = "" if allow_private else "; VLM4REC_ALLOW_PRIVATE_ADDRESSES=true allows private networks"
        raise PhotoError("blocked", f"{host} is an address inside a network, not a public one{hint}")
    return addresses


def _content(response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise PhotoError("unreachable", f"the server answers {response.status_code}")
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind and kind not in _UNTYPED and (not kind.startswith("image/") or "svg" in kind):
        raise PhotoError("wrong_type", f"the server answers with {kind}, which is no photo")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise PhotoError("wrong_type", "the server answers with compressed content, which was not asked for")
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > MAX_BYTES:
            raise PhotoError("too_large", f"the photo has more than {MAX_BYTES // 2**20} MiB")
    return bytes(content)


def _stored(client: httpx.Client, url: str, folder: Path, allow_private: bool) -> Result:
    try:
        content = fetch(client, url, allow_private)
    except PhotoError as error:
        return error
    digest = hashlib.sha256(content).digest()
    path = _file(folder, digest)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{hash(url)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        told = f"a photo cannot be kept in {path.parent} ({error.strerror or error})"
        raise RunError(
            f"{told}: make room there, or set VLM4REC_CACHE to another folder; what was done is kept"
        ) from None
    return digest


def _file(folder: Path, digest: bytes) -> Path:
    name = digest.hex()
    return folder / name[:2] / name
