"""Photos behind http(s) URLs, fetched once into the cache; no URL of a catalogue reaches the inside of a network.

A host is resolved here, every address that it resolves to is judged, and the connection goes to the judged address, so
that a second answer of the name server cannot lead elsewhere. The same holds for each redirect. Proxies of the
environment are not used, since a proxy would resolve the name once more.
"""

import hashlib
import ipaddress
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from vlm4rec_search.cache import Cache, Result, result_key
from vlm4rec_search.fills import Effort, PendingError
from vlm4rec_search.photo_files import MAX_BYTES, PhotoError

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
    keys = [result_key("url", url) for url in urls]
    lost = {key for key, digest in cache.read(list(set(keys))) if not _file(folder, digest).is_file()}
    with _client() as client:

        def compute(positions: Sequence[int]) -> list[Result]:
            return [_stored(client, urls[position], folder, allow_private) for position in positions]

        asked = replace(effort, again=lost | set(effort.again), workers=IN_FLIGHT)
        told, recorded = "photos fetched", effort.limit != 0
        filled = cache.fill("photo", "http", keys, compute, batch_size=1, label=told, recorded=recorded, effort=asked)
    files = [_file(folder, value) if isinstance(value, bytes) else value for value in filled.values]
    return [PendingError() if isinstance(file, Path) and not file.is_file() else file for file in files]


def fetch(client: httpx.Client, url: str, allow_private: bool) -> bytes:
    """Return the bytes behind a URL.

    Raises:
        PhotoError: blocked, unreachable, too_large or wrong_type.
    """
    deadline = time.monotonic() + SECONDS
    try:
        target = httpx.URL(url)
        for _ in range(REDIRECTS + 1):
            with _answer(client, target, allow_private) as response:
                if not response.has_redirect_location:
                    return _content(response, deadline)
                target = target.join(response.headers["location"])
    except httpx.TimeoutException:
        raise PhotoError("unreachable", f"no answer within {STEP_SECONDS:.0f} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise PhotoError("unreachable", f"the photo cannot be fetched: {error or type(error).__name__}") from None
    raise PhotoError("unreachable", f"more than {REDIRECTS} redirects")


def is_refused(address: str, allow_private: bool) -> bool:
    """Say whether an IP address must not be called: only public ones may, and private ones and loopback if allowed."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    if ip.is_loopback:
        return not allow_private
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return True  # a cloud's metadata service is link-local; nothing there is a photo
    return not ip.is_global and not allow_private


@contextmanager
def _client() -> Iterator[httpx.Client]:
    # No connection is kept: another host on the same address must show a certificate of its own.
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=0)
    headers = {"User-Agent": "vlm4rec-search", "Accept": "image/*", "Accept-Encoding": "identity"}
    with httpx.Client(trust_env=False, timeout=STEP_SECONDS, limits=limits, headers=headers) as client:
        yield client


@contextmanager
def _answer(client: httpx.Client, url: httpx.URL, allow_private: bool) -> Iterator[httpx.Response]:
    """Ask the judged address of the URL's host for it; name and certificate are those of the host."""
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise PhotoError("blocked", "only http and https URLs with a host and without a user name are fetched")
    host = url.raw_host.decode("ascii")
    address = _judged(host, url.port or (443 if url.scheme == "https" else 80), allow_private)
    pinned = url.copy_with(host=address)
    headers, extensions = {"Host": url.netloc.decode("ascii")}, {"sni_hostname": host}
    with client.stream("GET", pinned, headers=headers, extensions=extensions) as response:
        yield response


def _judged(host: str, port: int, allow_private: bool) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise PhotoError("unreachable", f"there is no host {host}") from None
    addresses = [str(entry[4][0]) for entry in found]
    if any(is_refused(address, allow_private) for address in addresses):
        hint = "" if allow_private else "; VLM4REC_ALLOW_PRIVATE_ADDRESSES=true allows private networks"
        raise PhotoError("blocked", f"{host} is an address inside a network, not a public one{hint}")
    return addresses[0]


def _content(response: httpx.Response, deadline: float) -> bytes:
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
        if time.monotonic() > deadline:
            raise PhotoError("unreachable", f"the photo took more than {SECONDS:.0f} seconds")
    return bytes(content)


def _stored(client: httpx.Client, url: str, folder: Path, allow_private: bool) -> Result:
    try:
        content = fetch(client, url, allow_private)
    except PhotoError as error:
        return error
    digest = hashlib.sha256(content).digest()
    path = _file(folder, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{hash(url)}")
    partial.write_bytes(content)
    partial.replace(path)
    return digest


def _file(folder: Path, digest: bytes) -> Path:
    name = digest.hex()
    return folder / name[:2] / name
