"""Photos behind http(s) URLs, fetched once into the cache, without access to addresses inside a network.

The address guard resolves a host, checks every address that it resolves to, and connects to a checked address, so that
a second answer of the name server cannot lead elsewhere. The same holds for each redirect. Proxies of the environment
are not used, since a proxy would resolve the name once more; its certificates are.
"""

import hashlib
import ipaddress
import random
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock

import httpx

from vlm4rec_search.common.cache import Cache, Codec, Failure, FillPolicy, result_key, stored_result
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.http import DeadlineTransport, deadline
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.common.retry_after import retry_after
from vlm4rec_search.datasets.photos.decode import MAX_BYTES, PhotoError

REDIRECTS = 5
SECONDS, STEP_SECONDS = 30.0, 10.0  # limits for a whole photo, and for connecting or one read
IN_FLIGHT = 16
_HEAD = 4096  # bytes in which the beginning of a page is looked for
MOST_UNANSWERED = 40  # requests in a row to one host, after which no more are sent to it
ATTEMPTS, PATIENCE = 4, 60.0  # requests for one photo of a busy server, and seconds of its pauses together
# The forms that Pillow reads come first: a server that chooses by Accept must not send a form that nobody reads.
_ACCEPTED = "image/jpeg, image/png, image/webp;q=0.9, image/gif;q=0.9, image/avif;q=0.8, image/*;q=0.5, */*;q=0.1"
_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body|title)\b", re.IGNORECASE | re.DOTALL)
_PAGE_TITLE = re.compile(rb"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_UNTYPED = ("application/octet-stream", "binary/octet-stream")  # content types of object stores for unknown files

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Networks that are always refused, although some count as private or even public. The metadata service of most clouds,
# 169.254.169.254, is link-local and refused as such.
_REFUSED_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # host services of Azure
        "100.100.100.200/32",  # metadata service of Alibaba
        "192.0.0.192/32",  # metadata service of Oracle
        "fd00:ec2::/32",  # metadata, DNS and time of Amazon over IPv6
        "fd20:ce::/32",  # metadata service of Google over IPv6
        "fec0::/10",  # site-local addresses, deprecated
        "64:ff9b::/96",  # IPv4 addresses behind a translator (NAT64)
        "64:ff9b:1::/48",  # the same, for local use
    )
]


def is_refused(address: str, allow_private: bool) -> bool:
    """Return whether an IP address must not be called.

    Public addresses may be called; private and loopback addresses only with `allow_private`.
    """
    ip: Address = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    if ip.is_loopback:
        return not allow_private
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return True
    if any(ip in network for network in _REFUSED_NETWORKS):
        return True
    return not ip.is_global and not allow_private


def resolve_host(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host, in the order of the name server.

    Raises:
        OSError, UnicodeError: there is no such host.
    """
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def fetch_photos(
    urls: Sequence[str], cache: Cache, policy: FillPolicy, allow_private: bool
) -> dict[str, Path | Failure]:
    """Return the file of each URL in the cache, fetching the missing photos as far as `policy` allows.

    Returns:
        For each URL its resolved file, or the failure to fetch it: blocked (an address or URL that must not be called),
        unreachable, too_large (`MAX_BYTES`) or wrong_type. A URL that was not fetched is left out.

    Raises:
        RunError: the cache cannot be used.
        UsageError: the certificates that the environment names cannot be read.
    """
    folder = cache.folder
    keys = {photo_key(url): url for url in urls}
    lost = {key for key, digest in cache.read(list(keys)).items() if not _file(folder, digest).is_file()}
    hosts = _Hosts()
    with _open_client() as client:
        results = cache.get_or_compute(
            "photo",
            "http",
            keys,
            lambda batch: [_store_photo(client, url, folder, allow_private, hosts) for url in batch],
            Codec(lambda path: bytes.fromhex(path.name), partial(_file, folder)),
            replace(policy, recompute=lost | set(policy.recompute)),
            batch_size=1,
            workers=IN_FLIGHT,
            label="photos fetched",
            exclusive=True,
        )
    files = {keys[key]: path.resolve() for key, path in results.values.items() if path.is_file()}
    return {**files, **{keys[key]: failure for key, failure in results.failures.items()}}


def fetched_photo(folder: Path, url: str) -> Path | None:
    """Return the file of a URL in the cache of a folder, None where it was not fetched; no cache is created.

    Raises:
        RunError: the cache cannot be read.
    """
    digest = stored_result(folder, photo_key(url))
    return None if digest is None else _file(folder, digest)


def photo_key(url: str) -> str:
    """Return the cache key of the photo behind a URL."""
    return result_key("url", url)


class _NoAnswerError(PhotoError):
    """No connection, or no answer in time."""


class _BusyError(Exception):
    """The server asks for a pause of `seconds`; None where it names no time."""

    def __init__(self, status: int, seconds: float | None) -> None:
        super().__init__(f"the server answers {status}")
        self.seconds = seconds


def fetch(client: httpx.Client, url: str, allow_private: bool) -> bytes:
    """Return the bytes behind a URL; the pauses that a busy server asks for are kept, `PATIENCE` seconds at most.

    Raises:
        PhotoError: blocked, unreachable, too_large or wrong_type.
    """
    waited, attempt = 0.0, 0
    while True:
        attempt += 1
        try:
            return _fetch_once(client, url, allow_private)
        except _BusyError as error:
            pause = 2.0 ** (attempt - 1) if error.seconds is None else error.seconds
            if attempt == ATTEMPTS:
                raise PhotoError("unreachable", f"{error}, {ATTEMPTS} times: try again later") from None
            if waited + pause > PATIENCE:
                raise PhotoError("unreachable", f"{error} and asks for a pause of {pause:.0f} seconds") from None
            pause += random.uniform(0.0, min(pause, 1.0))  # so that not all requests come at once
            waited += pause
            time.sleep(pause)


def _fetch_once(client: httpx.Client, url: str, allow_private: bool) -> bytes:
    try:
        with deadline(SECONDS):
            return _follow(client, httpx.URL(url), allow_private)
    except httpx.TimeoutException:
        reason = f"no answer within {STEP_SECONDS:g} seconds, or no complete answer within {SECONDS:g}"
        raise _NoAnswerError("unreachable", reason) from None
    except httpx.TransportError as error:
        raise _NoAnswerError("unreachable", f"the photo cannot be fetched: {error or type(error).__name__}") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise PhotoError("unreachable", f"the photo cannot be fetched: {error or type(error).__name__}") from None


def _follow(client: httpx.Client, target: httpx.URL, allow_private: bool) -> bytes:
    for _ in range(REDIRECTS + 1):
        with _open_response(client, target, allow_private) as response:
            if not response.has_redirect_location:
                return _read_content(response)
            target = target.join(response.headers["location"])
    raise PhotoError("unreachable", f"more than {REDIRECTS} redirects")


@contextmanager
def _open_client() -> Iterator[httpx.Client]:
    # No connection is kept alive: another host on the same address must show a certificate of its own.
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=0)
    headers = {"User-Agent": "vlm4rec-search", "Accept": _ACCEPTED, "Accept-Encoding": "identity"}
    transport = DeadlineTransport(limits, trust_env=False)
    with httpx.Client(transport=transport, trust_env=False, timeout=STEP_SECONDS, headers=headers) as client:
        yield client


@contextmanager
def _open_response(client: httpx.Client, url: httpx.URL, allow_private: bool) -> Iterator[httpx.Response]:
    """Request a URL from a checked address of its host; Host header and certificate are those of the host."""
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise PhotoError("blocked", "only http and https URLs with a host and without a user name are fetched")
    host = url.raw_host.decode("ascii")
    addresses = _checked_addresses(host, url.port or (443 if url.scheme == "https" else 80), allow_private)
    response = _send(client, url, host, addresses)
    try:
        yield response
    finally:
        response.close()


def _send(client: httpx.Client, url: httpx.URL, host: str, addresses: Sequence[str]) -> httpx.Response:
    """Send the request to the first address that accepts a connection."""
    headers, extensions = {"Host": url.netloc.decode("ascii")}, {"sni_hostname": host}
    for number, address in enumerate(addresses, 1):
        request = client.build_request("GET", url.copy_with(host=address), headers=headers, extensions=extensions)
        try:
            return client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses):
                raise
    raise PhotoError("unreachable", f"{host} has no address")


def _checked_addresses(host: str, port: int, allow_private: bool) -> list[str]:
    try:
        addresses = resolve_host(host, port)
    except (OSError, UnicodeError):
        raise _NoAnswerError("unreachable", f"there is no host {host}") from None
    if any(is_refused(address, allow_private) for address in addresses):
        hint = "" if allow_private else "; VLM4REC_ALLOW_PRIVATE_ADDRESSES=true allows private networks"
        raise PhotoError("blocked", f"{host} is an address inside a network, not a public address{hint}")
    return addresses


def _read_content(response: httpx.Response) -> bytes:
    if response.status_code in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        raise _BusyError(response.status_code, retry_after(response.headers))
    if response.status_code != httpx.codes.OK:
        raise PhotoError("unreachable", f"the server answers {response.status_code}")
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise _page_error(b"".join(islice(response.iter_raw(_HEAD), 1)))
    if kind and kind not in _UNTYPED and (not kind.startswith("image/") or "svg" in kind):
        raise PhotoError("wrong_type", f"the server answers with {kind}, not with a photo")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise PhotoError("wrong_type", "the server answers with compressed content that the request did not allow")
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > MAX_BYTES:
            raise PhotoError("too_large", f"the photo has more than {MAX_BYTES // 2**20} MiB")
    if _PAGE.match(content[:_HEAD]):
        raise _page_error(bytes(content[:_HEAD]))
    return bytes(content)


def _page_error(head: bytes) -> PhotoError:
    title = _PAGE_TITLE.search(head)
    named = f' with the title "{" ".join(title[1].decode("utf-8", "replace").split())}"' if title else ""
    reason = "it may forbid links from other sites, ask for a login, or have lost the photo"
    return PhotoError("wrong_type", f"the server answers with a page{named} instead of a photo: {reason}")


class _Hosts:
    """Which hosts have not answered many requests in a row; several threads may ask and record."""

    def __init__(self) -> None:
        self._unanswered: dict[str, int] = {}
        self._lock = Lock()

    def fetch(self, client: httpx.Client, url: str, allow_private: bool) -> bytes:
        """Return the bytes behind a URL as `fetch` does, without a request to a host that does not answer.

        Raises:
            PhotoError: as `fetch`.
        """
        host = url.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()
        if self._unanswered.get(host, 0) >= MOST_UNANSWERED:
            reason = f"{host} did not answer {MOST_UNANSWERED} requests in a row, so this photo was not asked for"
            raise PhotoError("unreachable", f"{reason}: try again later")
        is_answered = True
        try:
            return fetch(client, url, allow_private)
        except _NoAnswerError:
            is_answered = False
            raise
        finally:
            with self._lock:
                self._unanswered[host] = 0 if is_answered else self._unanswered.get(host, 0) + 1


def _store_photo(client: httpx.Client, url: str, folder: Path, allow_private: bool, hosts: _Hosts) -> Path | Failure:
    """Fetch a photo into a file named after the sha256 of its bytes."""
    try:
        content = hosts.fetch(client, url, allow_private)
    except PhotoError as error:
        return Failure.from_error(error)
    path = _file(folder, hashlib.sha256(content).digest())
    try:
        with replacing_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise RunError(
            f"a photo cannot be stored in {path.parent} ({error.strerror or error}): make room there, or set"
            " VLM4REC_CACHE to another folder; the photos fetched so far are kept"
        ) from None
    return path


def _file(folder: Path, digest: bytes) -> Path:
    """Return where the cache of a folder has the photo whose bytes have this sha256."""
    name = digest.hex()
    return folder / "photos" / name[:2] / name
