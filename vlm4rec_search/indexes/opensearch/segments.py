"""The segments of an index, which keep deleted documents until the server writes them anew."""

import time
from contextlib import suppress

from opensearchpy import OpenSearch

from vlm4rec_search.indexes.opensearch.connection import UnreachableError


def has_deleted(client: OpenSearch, index: str) -> bool:
    """Return whether segments of an index have deleted documents still, as of its last refresh."""
    return bool(client.indices.stats(index=index, metric="docs")["_all"]["total"]["docs"]["deleted"])


def merge_deleted(client: OpenSearch, index: str, seconds: float, **how: str | int) -> bool:
    """Merge until no segment has deleted documents, and return whether that is so; refresh the index before.

    A server keeps them for copies that fall behind, and drops them some 30 s after they are on the disk.

    Args:
        client: from `connect`.
        index: its name.
        seconds: to try for.
        how: parameters of the server's merge.
    """
    until = time.monotonic() + seconds
    while has_deleted(client, index):
        if (left := until - time.monotonic()) <= 0:
            return False
        client.indices.flush(index=index, params={"force": "true"})
        with suppress(UnreachableError):  # the server goes on with a merge that takes longer
            client.indices.forcemerge(index=index, params={**how, "request_timeout": left})
        client.indices.refresh(index=index, request_timeout=600)
        time.sleep(0.2)
    return True
