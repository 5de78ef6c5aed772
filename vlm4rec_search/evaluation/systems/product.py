"""The product's own ranking: a release of the tables as they stood, asked as a shopper's search would ask."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Ints, Scores
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System
from vlm4rec_search.search.query import Mode, Query


class Product(System):
    """What `vlm4rec search --user U --mode ...` answers: same legs, same fusion, same release file."""

    def __init__(self, name: str, mode: Mode) -> None:
        self.name, self.mode = name, mode

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Build a release of the candidates, and of the documents that histories are made of.

        Raises:
            UsageError: the split has no tables.
        """
        from vlm4rec_search.common.settings import settings
        from vlm4rec_search.indexes import open_index

        if split.tables is None:
            raise UsageError(f"{self.name} needs the tables of the search layer")
        self._split = split
        self._folder = TemporaryDirectory(prefix="vlm4rec-evaluation-")
        publish_split(split, Path(self._folder.name))
        self._places = {item: place for place, item in enumerate(split.catalogue.item_ids)}
        self._index = open_index(self._folder.name, ranking=settings().ranking)

    def scores(self, users: Ints) -> Scores:
        """Return the scores of as many hits as the ranking's depth, float32 (b, n); all others are not ranked."""
        found = np.full((len(users), self._split.shape[1]), NOT_FOUND, dtype=np.float32)
        for row, user in enumerate(users):
            query = Query(
                user=str(self._split.user_ids[user]),
                mode=self.mode,
                k=self._index.ranking.depth,
                include_seen=self._split.repeat,
            )
            hits = self._index.search(query).hits
            places = [self._places[hit.item_id] for hit in hits]
            # By rank, since different fused scores may be one number in float32.
            found[row, places] = -np.arange(len(hits), dtype=np.float32)
        return found

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Return the sentences of `vlm4rec search --explain`."""
        name = str(self._split.user_ids[user])
        query = Query(
            user=name, mode=self.mode, k=self._index.ranking.depth, include_seen=self._split.repeat, explain=True
        )
        said = {hit.item_id: hit.explanation.sentence for hit in self._index.search(query).hits if hit.explanation}
        return [said.get(str(item), "") for item in self._split.catalogue.item_ids[items]]


def publish_split(split: Split, folder: Path) -> None:
    """Build a release of a split's tables, with its candidates as the documents, in a folder."""
    from dataclasses import replace

    from vlm4rec_search.indexes.embedded.publish import build_release

    if split.tables is None:
        return
    allowed = set(split.catalogue.item_ids[split.candidates])
    documents = split.tables.tables.documents
    kept = pa.array([item in allowed for item in documents["item_id"].to_pylist()])
    given = replace(split.tables.tables, documents=documents.filter(kept))
    build_release(folder, given, split.tables.new_release("evaluation"))
