"""The product's own ranking: searches for each user in a release built from the tables of the cut."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Ints, Scores
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System
from vlm4rec_search.indexes import open_index
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.search.query import Mode, Query
from vlm4rec_search.search.ranking import Ranking


class Product(System):
    """Ranks by `vlm4rec search --user U --mode ...`: the same retrievers, fusion and release file."""

    def __init__(self, name: str, mode: Mode, ranking: Ranking | None = None) -> None:
        """Search in a mode with a ranking configuration; None takes the one that comes with the package."""
        self.name, self.mode, self._ranking = name, mode, ranking

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Build a release of the candidates and of the documents in the histories.

        Raises:
            UsageError: the split has no tables.
        """
        if split.tables is None:
            raise UsageError(f"{self.name} needs the tables of the search layer")
        self._split = split
        self._folder = TemporaryDirectory(prefix="vlm4rec-evaluation-")
        publish_split(split, Path(self._folder.name))
        self._places = {item: place for place, item in enumerate(split.catalogue.item_ids)}
        self._index = open_index(self._folder.name, ranking=self._ranking)

    def scores(self, users: Ints) -> Scores:
        """Return scores float32 (b, n); only the first `depth` hits of each user are ranked."""
        scores = np.full((len(users), self._split.shape[1]), NOT_FOUND, dtype=np.float32)
        for row, user in enumerate(users):
            query = Query(
                user=str(self._split.user_ids[user]),
                mode=self.mode,
                k=self._index.ranking.depth,
                include_seen=self._split.repeat,
            )
            hits = self._index.search(query).hits
            places = [self._places[hit.item_id] for hit in hits]
            # Scores follow the ranks: different fused scores may be the same number in float32.
            scores[row, places] = -np.arange(len(hits), dtype=np.float32)
        return scores

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Return the sentences of `vlm4rec search --explain`."""
        name = str(self._split.user_ids[user])
        query = Query(
            user=name, mode=self.mode, k=self._index.ranking.depth, include_seen=self._split.repeat, explain=True
        )
        sentences = {hit.item_id: hit.explanation.sentence for hit in self._index.search(query).hits if hit.explanation}
        return [sentences.get(str(item), "") for item in self._split.catalogue.item_ids[items]]


def publish_split(split: Split, folder: Path) -> None:
    """Build a release of a split's tables, with its candidates as the documents, in a folder."""
    if split.tables is None:
        return
    allowed = set(split.catalogue.item_ids[split.candidates])
    documents = split.tables.tables.documents
    kept = pa.array([item in allowed for item in documents["item_id"].to_pylist()])
    given = replace(split.tables.tables, documents=documents.filter(kept))
    build_release(folder, given, split.tables.new_release("evaluation"))
