"""How the indices of a release are stored and spread over a cluster: shards, copies, and the numbers of a vector.

docs/opensearch.md has the formula and a table of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal, TypeAlias

from vlm4rec_search.common.errors import UsageError

Vectors: TypeAlias = Literal["float32", "on_disk", "faiss"]
Compression: TypeAlias = Literal["1x", "2x", "4x", "8x", "16x", "32x"]

SHARD_DISK = 20e9  # bytes: larger shards take long to move, and smaller ones each cost a search
SHARD_MEMORY = 8e9  # bytes of vectors and graph
LINKS = 16  # of a document in the graph: the server's default
_TEXTS = 3_000  # bytes of the other fields of a document
_PROFILE = 20_000  # bytes of a shopper
_DECIMALS = 7  # bytes of a number of a vector in _source, which is compressed JSON
LUCENE_32X = (3, 6)  # the first version whose Lucene engine takes more than 4x


@dataclass(frozen=True, slots=True)
class Storage:
    """How new indices are stored.

    Attributes:
        vectors: `float32` and `on_disk` (Lucene; `on_disk` compares the nearest again with the full vectors), `faiss`.
        compression: of the vectors of the graph; None takes 1x, and 4x for `on_disk`.
        shards: of the items; None follows the formula.
        replicas: copies of each shard; None takes one where there are several nodes.
    """

    vectors: Vectors = "float32"
    compression: Compression | None = None
    shards: int | None = None
    replicas: int | None = None

    @property
    def level(self) -> Compression:
        """The compression in force."""
        return self.compression or ("4x" if self.vectors == "on_disk" else "1x")

    def check(self, read_version: Callable[[], tuple[int, int]]) -> None:
        """Refuse what a server does not take.

        Args:
            read_version: asks the server for its version; called where the answer matters.

        Raises:
            UsageError: the compression does not fit the engine.
        """
        if self.vectors == "float32" and self.level != "1x":
            raise UsageError(f"VLM4REC_INDEX_COMPRESSION={self.level} needs VLM4REC_INDEX_VECTORS=on_disk or faiss")
        if self.vectors != "on_disk" or self.level in ("1x", "4x"):
            return
        version = read_version()
        if version < LUCENE_32X:
            raise UsageError(
                f"OpenSearch {version[0]}.{version[1]} compresses vectors of the Lucene engine by 4x at most:"
                f" VLM4REC_INDEX_COMPRESSION={self.level} needs {LUCENE_32X[0]}.{LUCENE_32X[1]}, or"
                " VLM4REC_INDEX_VECTORS=faiss on a full distribution"
            )

    def settings(self, documents: int, dimension: int, count_nodes: Callable[[], int]) -> Mapping[str, object]:
        """Return the settings of an index of items: shards and copies.

        Args:
            documents: number of items.
            dimension: of their vectors.
            count_nodes: asks for the number of data nodes; called where one shard is not enough.
        """
        shards = self.shards or count_shards(documents, dimension, self.level)
        if shards > 1 and self.shards is None:
            shards = count_shards(documents, dimension, self.level, count_nodes())
        return {"number_of_shards": shards, **self.copies}

    def profile_settings(self, users: int) -> Mapping[str, object]:
        """Return the settings of an index of shoppers, who are read by id."""
        return {"number_of_shards": max(1, ceil(users * _PROFILE / SHARD_DISK)), **self.copies}

    @property
    def copies(self) -> Mapping[str, object]:
        """The setting of the number of copies."""
        return {"auto_expand_replicas": "0-1"} if self.replicas is None else {"number_of_replicas": self.replicas}


def graph_bytes(dimension: int, level: Compression) -> float:
    """Return the memory of one document's vector and links in the graph: 1.1 x (4 d / compression + 8 links)."""
    return 1.1 * (4 * dimension / int(level.removesuffix("x")) + 8 * LINKS)


def document_bytes(dimension: int, level: Compression) -> float:
    """Return the disk space of one document: its graph, the full vector, its JSON, and its other fields."""
    return graph_bytes(dimension, level) + 4 * dimension + _DECIMALS * dimension + _TEXTS


def count_shards(documents: int, dimension: int, level: Compression, nodes: int = 1) -> int:
    """Return the number of shards: 1 for a catalogue that one shard can hold, else a multiple of the data nodes.

    A shard holds at most `SHARD_DISK` bytes, and at most `SHARD_MEMORY` bytes of graph. A multiple of the nodes gives
    each of them the same share of memory and of work.
    """
    disk = documents * document_bytes(dimension, level) / SHARD_DISK
    shards = max(1, ceil(disk), ceil(documents * graph_bytes(dimension, level) / SHARD_MEMORY))
    return 1 if shards == 1 else ceil(shards / nodes) * nodes
