"""Connections to an OpenSearch server: credentials, trusted certificates, and errors in one clear line.

Credentials come from the settings or from the userinfo in VLM4REC_INDEX_URL. They travel only in a header: no message,
log line or `repr` of the client holds them.
"""

import logging
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from opensearchpy import OpenSearch, Transport, exceptions
from opensearchpy.helpers.errors import ScanError
from tenacity import Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_random_exponential

from vlm4rec_search.common.errors import RunError, UsageError, one_line
from vlm4rec_search.common.settings import Settings, secret
from vlm4rec_search.search.backend import AccessError, UnavailableError

CONNECTIONS = 32  # most open connections, for threads that share a client; a search uses up to two at once
TIMEOUT = 60.0  # seconds
TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})  # of a request or of one document in it
_PORTS = {"http": 9200, "https": 443}
# The server refuses a change with the status of missing rights, whoever asks: its disk is full, or somebody blocked it.
_BLOCKS = frozenset({"cluster_block_exception", "index_create_block_exception"})

# Without a handler Python itself would print the client's warnings and tracebacks beside our one line.
logging.getLogger("opensearch").addHandler(logging.NullHandler())


class UnreachableError(UnavailableError):
    """The server did not answer: connection refused or cut, or a time-out. The same request may succeed later."""


def connect(url: str, settings: Settings, timeout: float = TIMEOUT) -> OpenSearch:
    """Return a client for a server; nothing is sent yet, and the client never repeats a request.

    Every method of the client raises UnreachableError when there is no answer, and AccessError when certificate,
    credentials or rights are refused; other refusals stay exceptions of opensearch-py. Threads may share the client.

    Args:
        url: `http[s]://host[:port][/prefix]`. Certificates are always verified, against `settings.index_ca` where set.
        settings: credentials and certificate authority.
        timeout: seconds until a request without an answer fails.

    Raises:
        UsageError: the URL is invalid, a URL other than `settings.index_url` has a password, the credentials
            contradict each other, or a file cannot be read.
    """
    parts = _split(url)
    if parts.password is not None and url != settings.index_url:
        raise UsageError(
            f"{redacted(url)} has a password, which other users of this machine can see: remove it and set "
            "VLM4REC_INDEX_USER and VLM4REC_INDEX_PASSWORD, or VLM4REC_INDEX_PASSWORD_FILE"
        )
    host = {"host": parts.hostname, "port": parts.port or _PORTS[parts.scheme], "url_prefix": parts.path.rstrip("/")}
    secure = {"use_ssl": True, "ssl_context": _trust(settings.index_ca)} if parts.scheme == "https" else {}
    return OpenSearch(
        [host],
        transport_class=_Transport,
        headers=_authorization(parts, settings),
        timeout=timeout,
        max_retries=0,
        pool_maxsize=CONNECTIONS,
        **secure,
    )


def redacted(url: str) -> str:
    """Return the URL without user and password, for messages and records."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    return scheme + separator + rest.rpartition("@")[2]  # the last @, since a password may hold unescaped characters


@contextmanager
def connection_errors(host: str) -> Iterator[None]:
    """Turn the client's exceptions about connection and credentials into one line; other exceptions pass.

    Raises:
        UnreachableError: no answer, or not in time.
        AccessError: the certificate, the credentials or the rights are refused.
    """
    try:
        yield
    except exceptions.SSLError as error:
        raise _tls_failure(host, error) from None
    except exceptions.ConnectionTimeout:
        raise UnreachableError(f"{host} did not answer in time") from None
    except exceptions.ConnectionError as error:
        raise UnreachableError(f"cannot reach {host}: {_describe_cause(_innermost(error.info))}") from None
    except (exceptions.SerializationError, JSONDecodeError):  # a page of a proxy or of another server
        raise UnreachableError(f"{host} does not answer as OpenSearch does") from None
    except exceptions.AuthenticationException:
        raise AccessError(
            f"{host} does not accept these credentials: check VLM4REC_INDEX_USER and VLM4REC_INDEX_PASSWORD, or "
            "VLM4REC_INDEX_API_KEY"
        ) from None
    except exceptions.AuthorizationException as error:
        if error.error in _BLOCKS:
            raise
        raise AccessError(f"{host} does not allow this to these credentials: {describe_refusal(error)}") from None


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn the exceptions of the client about a refused request into one line.

    Raises:
        UnavailableError: the server cannot answer now.
        RunError: the server refuses a request, or lost a node while all documents were read.
    """
    try:
        yield
    except exceptions.TransportError as error:
        kind = UnavailableError if error.status_code in TRANSIENT_STATUSES else RunError
        raise kind(f"the server refuses: {describe_refusal(error)}") from None
    except ScanError as error:
        raise RunError(f"the server did not read all documents: {error}") from None


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    busy = isinstance(error, exceptions.TransportError) and error.status_code in TRANSIENT_STATUSES
    return busy or isinstance(error, UnreachableError)


def until_answered(patience: float) -> Retrying:
    """Return what repeats a request with back-off until the server answers it, for so many seconds.

    The last error is raised then, as is one that a repetition cannot mend.
    """
    back_off = wait_random_exponential(multiplier=0.5, max=5.0)
    retry = retry_if_exception(is_transient)
    return Retrying(retry=retry, stop=stop_after_delay(patience), wait=back_off, reraise=True)


def describe_error(error: object) -> str:
    """Return `type: reason (innermost cause)` of the `error` in a server's answer, on one line."""
    if not isinstance(error, Mapping):
        return one_line(error) if error else ""
    cause = f" ({describe_error(error['caused_by'])})" if "caused_by" in error else ""
    return one_line(f"{error.get('type')}: {error.get('reason')}{cause}")


def describe_refusal(error: exceptions.TransportError) -> str:
    """Return the server's reason for refusing a request, on one line."""
    reason = error.info.get("error") if isinstance(error.info, Mapping) else None
    return describe_error(reason) or f"status {error.status_code}"


class _Transport(Transport):
    def perform_request(self, *args: Any, **kwargs: Any) -> Any:  # Any: the client's own signature
        connection = self.get_connection()
        with connection_errors(f"{connection.host}{connection.url_prefix}"):
            return super().perform_request(*args, **kwargs)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment or "@" in parts.path:
        hint = " (/ as %2F and @ as %40 in a password)" if "@" in url else ""
        raise UsageError(f"{redacted(url)!r} is not the URL of a server: write http(s)://host:port{hint}")
    return parts


def _trust(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise UsageError(f"VLM4REC_INDEX_CA: {ca} holds no certificate in PEM form") from None
    except OSError as error:
        raise UsageError(f"VLM4REC_INDEX_CA: cannot read {ca}: {error.strerror}") from None


def _authorization(parts: SplitResult, settings: Settings) -> dict[str, str]:
    key = secret("VLM4REC_INDEX_API_KEY", settings.index_api_key, settings.index_api_key_file)
    user = settings.index_user if parts.username is None else unquote(parts.username)
    password = secret("VLM4REC_INDEX_PASSWORD", settings.index_password, settings.index_password_file, is_ascii=False)
    if parts.password is not None:
        password = unquote(parts.password)
    if key and (user or password):
        raise UsageError("give either VLM4REC_INDEX_API_KEY or user and password, not both")
    if bool(user) != bool(password):
        present, missing = ("user", "PASSWORD") if user else ("password", "USER")
        raise UsageError(f"there is a {present} for the server but no VLM4REC_INDEX_{missing}")
    if key:
        return {"authorization": f"ApiKey {key}"}
    return {"authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"} if user else {}


def _tls_failure(host: str, error: exceptions.SSLError) -> RunError | UsageError:
    root = _innermost(error.info)
    if isinstance(root, ssl.SSLCertVerificationError):
        hint = "for a CA of your own set VLM4REC_INDEX_CA to its PEM file"
        return AccessError(f"the certificate of {host} is not trusted: {root.verify_message.rstrip('.')}; {hint}")
    if getattr(root, "reason", None) in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return UsageError(f"{host} does not speak TLS: try http://")
    return UnreachableError(f"cannot reach {host}: {_describe_cause(root)}")


def _innermost(error: object) -> BaseException:
    if not isinstance(error, BaseException):
        return RunError(str(error))
    inner = error.__cause__ or next(
        (argument for argument in error.args[::-1] if isinstance(argument, BaseException)), None
    )
    return error if inner is None else _innermost(inner)


def _describe_cause(error: BaseException) -> str:
    return one_line(error.strerror if isinstance(error, OSError) and error.strerror else error)


def server_version(client: OpenSearch) -> tuple[int, int]:
    """Return the first two numbers of the server's version."""
    first, second = client.info()["version"]["number"].split(".")[:2]
    return int(first), int(second)
