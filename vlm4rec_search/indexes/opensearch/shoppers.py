"""Removes the documents of shoppers from the releases on a server, so that no file keeps them."""

from collections.abc import Sequence

from opensearchpy import OpenSearch

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.aliases import ReleaseCatalogue
from vlm4rec_search.indexes.opensearch.bulk import delete_documents
from vlm4rec_search.indexes.opensearch.mapping import INDEX_KINDS
from vlm4rec_search.indexes.opensearch.segments import merge_deleted

WRITE_BLOCK = "index.blocks.write"
_MERGING = 600.0  # seconds for each index


def delete_profiles(catalogue: ReleaseCatalogue, release: str, ids: Sequence[str]) -> None:
    """Lower the number of users in `_meta`, and delete the documents; only the holder of the publisher's lease may.

    The number comes first: after a break in between, either the next call finds the rest of the documents, or the
    release is already complete without them.

    Raises:
        RunError: the server keeps a document. A repeated call deletes what is left.
    """
    client, index = catalogue.client, catalogue.index("profiles", release)
    client.indices.put_settings(index=index, body={WRITE_BLOCK: None})  # a killed copy of the release leaves it
    users = client.count(index=index)["count"] - len(ids)
    for kind in INDEX_KINDS:
        of_kind = catalogue.index(kind, release)
        mapping = client.indices.get_mapping(index=of_kind, ignore_unavailable=True)  # a damaged release may lack it
        meta = mapping.get(of_kind, {}).get("mappings", {}).get("_meta", {})
        if "whole" in meta:
            client.indices.put_mapping(index=of_kind, body={"_meta": {**meta, "users": users}})
    delete_documents(client, index, ids)
    client.indices.refresh(index=index)


def merge_profiles(client: OpenSearch, indices: Sequence[str]) -> None:
    """Let the server write the files of indices anew, until none has deleted profiles.

    Raises:
        RunError: an index has some after `_MERGING` seconds still.
    """
    for index in indices:
        if not merge_deleted(client, index, _MERGING, max_num_segments=1):
            raise RunError(f"{index} has deleted profiles in its files still: run `vlm4rec forget` again")
