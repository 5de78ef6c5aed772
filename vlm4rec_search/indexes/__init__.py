"""Search indexes: one interface; the URL chooses the backend, here and nowhere else."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.backend import Index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlm4rec_search.common.settings import Settings
    from vlm4rec_search.indexes.releases import Releases
    from vlm4rec_search.search.ranking import Ranking
    from vlm4rec_search.search.rules import Rule

_ADDRESS = re.compile(r"(?:.*@)?([\w.-]+:\d{1,5})/?")  # host and port, perhaps after user and password

__all__ = ["Index", "open_index", "open_releases"]


def open_index(url: str, encoder: str | None = None, ranking: Path | None = None, rules: Path | None = None) -> Index:
    """Open the release that answers now; it stays open and unchanged until `close`.

    Args:
        url: a folder for the embedded index, `http(s)://` for an OpenSearch server, for which the settings have the
            prefix, the credentials and the CA.
        encoder: name or id of the sentence encoder that the caller works with; None takes the release's own.
        ranking: file of the ranking configuration; None takes the one that ships.
        rules: file of the rules of the business.

    Raises:
        UsageError: nothing is published there, or it was built by another encoder or for another package version.
        RunError: the release cannot be read.
    """
    from vlm4rec_search.search.ranking import load_ranking
    from vlm4rec_search.search.rules import load_rules

    opened = _open_server if _is_server(url) else _open_folder
    return opened(url, encoder, load_ranking(ranking), load_rules(rules))


def _open_server(url: str, encoder: str | None, ranking: "Ranking", rules: "Sequence[Rule]") -> Index:
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes.opensearch.aliases import ReleaseCatalogue
    from vlm4rec_search.indexes.opensearch.backend import OpenSearchIndex
    from vlm4rec_search.indexes.opensearch.connection import connect

    here = settings()
    return OpenSearchIndex(ReleaseCatalogue(connect(url, here), here.index_prefix), None, encoder, ranking, rules)


def _open_folder(url: str, encoder: str | None, ranking: "Ranking", rules: "Sequence[Rule]") -> Index:
    from vlm4rec_search.indexes.embedded.backend import EmbeddedIndex
    from vlm4rec_search.indexes.embedded.pointer import current_release
    from vlm4rec_search.indexes.embedded.store import Store

    folder = Path(url)
    path = current_release(folder)
    if path is None:
        raise UsageError(f"nothing is published in {folder}: run `vlm4rec index` first")
    return EmbeddedIndex(Store(path), encoder, ranking, rules)


def open_releases(url: str, settings: "Settings") -> "Releases":
    """Return the releases of an index, to publish, list, switch, remove or compare them.

    Args:
        url: a folder for the embedded index, `http(s)://` for an OpenSearch server.
        settings: prefix, credentials and CA of a server.

    Raises:
        UsageError: the URL cannot be read, or the credentials cannot.
    """
    if _is_server(url):
        from vlm4rec_search.indexes.opensearch.connection import connect, redacted
        from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases

        return OpenSearchReleases(connect(url, settings), settings.index_prefix, redacted(url), settings.index_vectors)
    from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases

    return EmbeddedReleases(Path(url))


def _is_server(url: str) -> bool:
    """Tell a server from a folder.

    Raises:
        UsageError: it looks like a server's, but for what it has to begin with.
    """
    address = None if "://" in url or Path(url).is_dir() else _ADDRESS.fullmatch(url)
    if address:
        raise UsageError(f"{address[1]} is neither a folder nor the URL of a server: write http://{address[1]}")
    return "://" in url
