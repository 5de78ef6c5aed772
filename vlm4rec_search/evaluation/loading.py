"""From the tables of an environment to a split."""

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.data import Catalogue, Mask, Scores, Split, Texts
from vlm4rec_search.evaluation.given import given_vectors
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.systems.base import unit
from vlm4rec_search.pipeline.publish import Handover, read_tables

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# What speaks for an item, for every system alike: what was hidden, sent back or merely shown was not taken.
_HISTORIES = """
SELECT user_id, item_id, interacted_at
FROM histories.user_histories INNER JOIN profiles.likes USING (user_id, position, item_id) ORDER BY user_id, position
"""
_WEIGHTS = "SELECT user_id, item_id, weight FROM profiles.profile_weights"
_PHOTOS = "SELECT item_id, vector FROM embeddings.image_embeddings"
_MOMENT = "SELECT as_of FROM histories.as_of"


def load_split(settings: Settings, environment: str, protocol: Protocol, needs: frozenset[str]) -> Split:
    """Read an environment into a split; titles and descriptions alone are encoded through the cache where a system
    needs them. Vectors that the data set brings along stand in for those of its photos and titles.

    Args:
        settings: its warehouse is read.
        environment: of `sqlmesh plan`.
        protocol: says which items are candidates.
        needs: kinds of item vectors.

    Raises:
        UsageError: a table is missing or empty.
        RunError: the warehouse is being written.
    """
    import pandas as pd

    from vlm4rec_search.common.warehouse import in_environment, read

    with read(settings.warehouse) as connection:
        handed = read_tables(connection, environment)
        queries = (_HISTORIES, _WEIGHTS, _PHOTOS, _MOMENT)
        frames = [connection.execute(in_environment(query, environment)).df() for query in queries]
    histories, weights, photos, moment = frames
    catalogue = _catalogue(settings, handed, photos, needs)
    user_ids = np.array(sorted(histories["user_id"].unique()), dtype=object)
    items = catalogue.positions(histories["item_id"].to_numpy(dtype=object))
    histories, items = histories[items >= 0], items[items >= 0]
    return Split(
        catalogue=catalogue,
        user_ids=user_ids,
        users=pd.Index(user_ids).get_indexer(pd.Index(histories["user_id"])).astype(np.int64),
        items=items,
        times=histories["interacted_at"].to_numpy(dtype="datetime64[us]"),
        weights=_weights(catalogue, user_ids, weights),
        as_of=moment["as_of"].to_numpy(dtype="datetime64[us]")[0],
        candidates=_candidates(protocol, items, len(catalogue.item_ids)),
        repeat=protocol.repeat,
        seed=protocol.seed,
        tables=handed,
    )


def _candidates(protocol: Protocol, taken: "np.typing.NDArray[np.int64]", items: int) -> Mask:
    """Return which items may be ranked: all, or those of any history, which are those first seen before the cut."""
    mask = np.full(items, protocol.candidates == "all")
    mask[taken] = True
    return mask


def _weights(
    catalogue: Catalogue, user_ids: "np.typing.NDArray[np.object_]", frame: "pd.DataFrame"
) -> sparse.csr_array:
    import pandas as pd

    rows = pd.Index(user_ids).get_indexer(pd.Index(frame["user_id"]))
    columns = catalogue.positions(frame["item_id"].to_numpy(dtype=object))
    known = (rows >= 0) & (columns >= 0)
    cells = (frame["weight"].to_numpy(np.float32)[known], (rows[known], columns[known]))
    return sparse.coo_array(cells, shape=(len(user_ids), len(catalogue.item_ids))).tocsr()


def _catalogue(settings: Settings, handed: Handover, photos: "pd.DataFrame", needs: frozenset[str]) -> Catalogue:
    documents = handed.tables.documents
    columns = documents.select(["item_id", "title", "image"]).to_pydict()
    ids, titles, images = (np.array(columns[name], dtype=object) for name in ("item_id", "title", "image"))
    vectors = {"document": _stack(documents["vector"].to_pylist(), len(ids), np.arange(len(ids)))}
    catalogue = Catalogue(ids, titles, images, vectors)
    texts = {"title": titles, "description": _descriptions(documents)}
    for kind in needs & {"vision", *texts}:
        given = given_vectors(settings.data_dir, kind)
        if given is None and kind in texts:
            vectors[kind] = _encoded(settings, ids, texts[kind], handed.encoder)
            continue
        frame = photos if given is None else given
        vectors[kind] = unit(_stack(list(frame["vector"]), len(ids), catalogue.positions(frame["item_id"])))
    return catalogue


def _descriptions(documents: "pa.Table") -> Texts:
    """Return the caption of each item; where a catalogue has none at all, the shop's own text, or else the title."""
    rows = [documents[name].to_pylist() for name in ("caption", "description", "title")]
    if any(rows[0]):
        return np.array([caption or "" for caption in rows[0]], dtype=object)
    return np.array([next(filter(None, row)) for row in zip(*rows, strict=True)], dtype=object)


def _encoded(settings: Settings, ids: Texts, texts: Texts, encoder: str) -> Scores:
    import pandas as pd

    from vlm4rec_search.embeddings.tables import embed_texts

    told = np.flatnonzero(texts != "")
    frame = pd.DataFrame({"item_id": ids[told], "text": texts[told]})
    embedded = embed_texts(frame, encoder.rsplit("@", 1)[0], settings.cache)
    return _stack(list(embedded["vector"]), len(ids), told)


def _stack(vectors: list[list[float]], items: int, rows: "np.typing.NDArray[np.int64]") -> Scores:
    """Return float32 (items, d) with the vectors in their rows, zeros elsewhere; d is 1 where there are no vectors."""
    stacked = np.zeros((items, len(vectors[0]) if vectors else 1), dtype=np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if row >= 0:
            stacked[row] = vector
    return stacked
