"""A catalogue of six items with vectors that can be checked by hand, for tests of the index and the search."""

from pathlib import Path

import numpy as np
import pandas as pd

from vlm4rec_search.indexes.build import build_release
from vlm4rec_search.indexes.meta import ReleaseMeta, ReleaseSummary, new_release

ENCODER = "hashing-4@1"
TEXTS = {
    "a": ("red dress", "A long red dress", "A red item"),
    "b": ("blue dress", "A short dress", "A blue item"),
    "c": ("blue shoes", "Running shoes", None),
    "d": ("red lamp", None, "A red and grey item"),
    "e": ("green lamp", "A lamp of wood", "A green item"),
    "f": ("grey chair", "A chair of wood", "A grey item"),
}
VECTORS = {
    "a": (1.0, 0.0, 0.0, 0.0),
    "b": (0.8, 0.6, 0.0, 0.0),
    "c": (0.0, 1.0, 0.0, 0.0),
    "d": (0.6, 0.0, 0.8, 0.0),
    "e": (0.0, 0.0, 1.0, 0.0),
    "f": (0.0, 0.0, 0.0, 1.0),
}
CATEGORIES = dict(zip("abcdef", ["dresses", "dresses", "shoes", "lamps", "lamps", None], strict=True))
PRICES = dict(zip("abcdef", [50.0, 30.0, 20.0, 10.0, None, 99.5], strict=True))
ATTRIBUTES = {
    "a": '{"brand": "Alder", "tags": ["new", "silk"]}',
    "b": '{"brand": "Birch", "tags": ["sale"]}',
    "c": '{"brand": "Alder", "size": 42}',
    "d": '{"we\\"ird.$/~field": "x"}',
}


def documents() -> pd.DataFrame:
    """Return search.item_documents of the six items."""
    rows = [(item, *TEXTS[item], CATEGORIES[item], PRICES[item], item != "e", ATTRIBUTES.get(item)) for item in TEXTS]
    columns = ["item_id", "title", "description", "caption", "category", "price", "available", "attributes"]
    frame = pd.DataFrame(rows, columns=columns).astype({"price": float})
    frame["vector"] = [np.array(VECTORS[item], dtype=np.float32) for item in frame["item_id"]]
    return frame.assign(image=None, encoder=ENCODER, captioner="attributes@1", content_hash=frame["item_id"] + "1")


def users() -> pd.DataFrame:
    """Return search.user_documents: u1 has seen a (three parts) and d (one part), u2 only c and has no words."""
    mixed = 0.75 * np.array(VECTORS["a"]) + 0.25 * np.array(VECTORS["d"])
    length = np.linalg.norm(mixed)
    vectors = [(mixed / length).astype(np.float32), np.array(VECTORS["c"], dtype=np.float32)]
    parts = [{"item_id": "a", "weight": 0.75 / length}, {"item_id": "d", "weight": 0.25 / length}]
    history = [parts, [{"item_id": "c", "weight": 1.0}]]
    terms = [[{"term": "red", "word": "red", "weight": 1.0}, {"term": "dress", "word": "dress", "weight": 0.5}], []]
    columns = {"user_id": ["u1", "u2"], "items": [2, 1], "vector": vectors, "history": history}
    return pd.DataFrame({**columns, "seen": [["a", "d", "gone"], ["c"]], "terms": terms})


def popularity() -> pd.DataFrame:
    """Return search.item_popularity; d and f have no interactions, b and c equally many."""
    return pd.DataFrame({"item_id": ["a", "b", "c", "e"], "interactions": [3, 7, 7, 1], "rank": [3, 1, 2, 4]})


def meta(encoder: str = ENCODER, dimension: int = 4) -> ReleaseMeta:
    """Return the metadata of a new release."""
    return new_release(encoder, dimension, "attributes@1", "none@1", None)


def publish(folder: Path, frame: pd.DataFrame | None = None) -> ReleaseSummary:
    """Publish the six items, or other documents, in a folder."""
    return build_release(folder, documents() if frame is None else frame, users(), popularity(), meta())
