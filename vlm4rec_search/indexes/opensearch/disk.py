"""Small changes on a server whose disk is full, and which therefore refuses to change an index.

The server blocks every index until the disk has room again; indices can be deleted meanwhile.
"""

from collections.abc import Callable
from typing import TypeVar

from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.indexes.opensearch.connection import describe_refusal

T = TypeVar("T")

DISK_FULL = "read-only-allow-delete"  # in the server's reason when the disk is full
DISK_BLOCK = "index.blocks.read_only_allow_delete"  # the server sets it


def change_despite_full_disk(client: OpenSearch, index: str, change: Callable[[], T]) -> T:
    """Return what a small change returns; where the disk is full, the block is lifted for it.

    Args:
        client: from `connect`.
        index: names, or patterns of names, of the indices that are changed.
        change: settings, mappings or aliases; it is called again when the block is lifted.
    """
    try:
        return change()
    except exceptions.TransportError as error:
        if not is_disk_full(error):
            raise
    client.indices.put_settings(index=index, body={DISK_BLOCK: None})
    try:
        return change()
    finally:
        client.indices.put_settings(index=index, body={DISK_BLOCK: True})


def is_disk_full(error: exceptions.TransportError) -> bool:
    """Return whether the server refuses because the disk is full."""
    return DISK_FULL in describe_refusal(error)
