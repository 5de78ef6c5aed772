"""Search indexes: one interface; the URL chooses the backend, here and nowhere else."""

from pathlib import Path

from vlm4rec_search.errors import UsageError
from vlm4rec_search.indexes.base import Index

__all__ = ["Index", "index_folder", "open_index"]


def open_index(url: str, encoder: str | None = None) -> Index:
    """Open the release that answers now; it stays open and unchanged until `close`.

    Args:
        url: a folder for the embedded index.
        encoder: name or id of the sentence encoder that the caller works with; None takes the release's own.

    Raises:
        UsageError: nothing is published there, or it was built by another encoder or for another package version.
        RunError: the release cannot be read.
    """
    from vlm4rec_search.indexes.embedded import EmbeddedIndex
    from vlm4rec_search.indexes.store import Store
    from vlm4rec_search.releases import current_release

    folder = index_folder(url)
    path = current_release(folder)
    if path is None:
        raise UsageError(f"nothing is published in {folder}: run `vlm4rec index` first")
    return EmbeddedIndex(Store(path), encoder)


def index_folder(url: str) -> Path:
    """Return the folder of the embedded index that the URL names.

    Raises:
        UsageError: the URL names a server.
    """
    if "://" in url:
        raise UsageError("indexes are folders so far, not servers: let VLM4REC_INDEX_URL or --index name a folder")
    return Path(url)
