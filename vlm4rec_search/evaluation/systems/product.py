"""The product's own ranking: a release of the tables as they stood, asked as a shopper's search would ask."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from vlm4rec_search.errors import UsageError
from vlm4rec_search.evaluation.data import Ints, Scores, Split, Targets
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System
from vlm4rec_search.queries.query import DEPTH, Mode, Query


class Product(System):
    """What `vlm4rec search --user U --mode ...` answers: same legs, same fusion, same release file."""

    def __init__(self, name: str, mode: Mode) -> None:
        self.name, self.mode = name, mode

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Build a release of the candidates, and of the documents that histories are made of.

        Raises:
            UsageError: the split has no tables.
        """
        from vlm4rec_search.indexes import open_index

        if split.tables is None:
            raise UsageError(f"{self.name} needs the tables of the search layer")
        self._split = split
        self._folder = TemporaryDirectory(prefix="vlm4rec-evaluation-")
        _publish(split, Path(self._folder.name))
        self._places = {item: place for place, item in enumerate(split.catalogue.item_ids)}
        self._index = open_index(self._folder.name)

    def scores(self, users: Ints) -> Scores:
        """Return the scores of the best 200, float32 (b, n); all others are not ranked."""
        found = np.full((len(users), self._split.shape[1]), NOT_FOUND, dtype=np.float32)
        for row, user in enumerate(users):
            query = Query(
                user=str(self._split.user_ids[user]), mode=self.mode, k=DEPTH, include_seen=self._split.repeat
            )
            hits = self._index.search(query).hits
            places = [self._places[hit.item_id] for hit in hits]
            # By rank, since different fused scores may be one number in float32.
            found[row, places] = -np.arange(len(hits), dtype=np.float32)
        return found


def _publish(split: Split, folder: Path) -> None:
    from vlm4rec_search.indexes.build import build_release
    from vlm4rec_search.indexes.meta import new_release

    tables = split.tables
    if tables is None:
        return
    allowed = set(split.catalogue.item_ids[split.candidates])
    kept = pa.array([item in allowed for item in tables.documents["item_id"].to_pylist()])
    meta = new_release(tables.encoder, tables.dimension, tables.captioner, tables.prompt, tables.as_of, "evaluation")
    build_release(folder, tables.documents.filter(kept), tables.users, tables.popularity, meta)
