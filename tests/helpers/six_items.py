"""A catalogue of six items with vectors that can be checked by hand, for tests of the index and the search."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.derived_tables import facets, scored, terms
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.release import ReleaseSummary, new_release
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.release import ReleaseMeta

ENCODER = "hashing-4@1"
RANKING = Path(__file__).parents[1] / "fixtures" / "ranking.yaml"
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
FIT, FITTED = "gating@1", {"a": (1.0, 0.0), "b": (0.6, 0.8), "c": (0.0, 1.0), "f": (0.8, 0.6)}
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
    rows = [
        (item, *TEXTS[item], None, CATEGORIES[item], PRICES[item], item != "e", ATTRIBUTES.get(item)) for item in TEXTS
    ]
    columns = ["item_id", "title", "description", "caption", "details", "category", "price", "available", "attributes"]
    frame = pd.DataFrame(rows, columns=columns).astype({"price": float})
    frame["vector"] = [np.array(VECTORS[item], dtype=np.float32) for item in frame["item_id"]]
    return frame.assign(image=None, encoder=ENCODER, captioner="attributes@1", content_hash=frame["item_id"] + "1")


def users() -> pd.DataFrame:
    """Return search.user_documents: u1 has seen a (three parts) and d (one part), u2 only c and has no words.

    u3 has seen f, which spoke against it, and is of the segment s; u4 likes lamps and has no segment.
    """
    mixed = 0.75 * np.array(VECTORS["a"]) + 0.25 * np.array(VECTORS["d"])
    length = np.linalg.norm(mixed)
    vectors = [(mixed / length).astype(np.float32), np.array(VECTORS["c"], dtype=np.float32), None, None]
    parts = [{"item_id": "a", "weight": 0.75 / length}, {"item_id": "d", "weight": 0.25 / length}]
    history: list[list[dict[str, object]]] = [parts, [{"item_id": "c", "weight": 1.0}], [], []]
    words = [{"term": "red", "word": "red", "weight": 1.0}, {"term": "dress", "word": "dress", "weight": 0.5}]
    interests = [[_interest("a", 0.75), _interest("d", 0.25)], [_interest("c", 1.0)], [], []]
    return pd.DataFrame(
        {
            "user_id": ["u1", "u2", "u3", "u4"],
            "items": [2, 1, 0, 0],
            "vector": vectors,
            "history": history,
            "seen": [["a", "d", "gone"], ["c"], ["f"], []],
            "terms": [words, [], [], []],
            "interests": interests,
            "behaviour": [[start("a", 1.0, 1.0), start("d", 0.5, 0.25)], [], [], []],
            "shoppers": [[{"item_id": "b", "score": 1.0}, {"item_id": "f", "score": 0.5}], [], [], []],
            "repeats": [[{"item_id": "d", "score": 1.0, "times": 3, "last_on": "2025-02-09"}], [], [], []],
            "segment": [None, None, "s", None],
            "categories": [["dresses", "lamps"], ["shoes"], [], ["lamps"]],
            "fitted": [np.array(FITTED["a"], dtype=np.float32), None, None, None],
        }
    )


def start(item: str, weight: float, lasting: float) -> dict[str, object]:
    """Return an item of `behaviour`, from which co-purchases and EASE start."""
    return {"item_id": item, "weight": weight, "lasting": lasting}


def _interest(item: str, importance: float) -> dict[str, object]:
    return {
        "vector": np.array(VECTORS[item], dtype=np.float32),
        "importance": importance,
        "medoid": item,
        "items": [item],
    }


def popularity() -> pd.DataFrame:
    """Return the counts of search.item_popularity; d and f have no shoppers, b and c equally many."""
    return pd.DataFrame({"item_id": ["a", "b", "c", "e"], "shoppers": [3, 7, 7, 1], "recent": [3, 7, 7, 1]})


def neighbours() -> pd.DataFrame:
    """Return search.item_neighbours: a is bought with b and c, d with c and e."""
    rows = [("a", "b", 0.5), ("a", "c", 0.25), ("d", "c", 0.5), ("d", "e", 0.25)]
    return pd.DataFrame(rows, columns=["item_id", "neighbour_id", "similarity"])


def ease() -> pd.DataFrame:
    """Return search.ease_weights: a speaks for b and against e, d speaks for e and a little for c."""
    rows = [("a", "b", 0.5), ("a", "e", -0.25), ("d", "e", 0.5), ("d", "c", 0.125)]
    return pd.DataFrame(rows, columns=["item_id", "neighbour_id", "weight"])


def fitted() -> pd.DataFrame:
    """Return embeddings.fitted_items: d and e have no photo."""
    vectors = [np.array(vector, dtype=np.float32) for vector in FITTED.values()]
    return pd.DataFrame({"item_id": list(FITTED), "fit": FIT, "vector": vectors})


def segments() -> pd.DataFrame:
    """Return search.segment_popularity: e and then c in the segment s, e in the category of lamps."""
    rows = [("s", "e", 5), ("s", "c", 2), ("category:lamps", "e", 1)]
    return pd.DataFrame(rows, columns=["segment", "item_id", "shoppers"])


def given(documents: Frame, people: Frame | None = None, counts: pd.DataFrame | None = None) -> SearchTables[Frame]:
    """Return the search layer of documents.

    Args:
        documents: of search.item_documents; facets and terms follow from them.
        people: of search.user_documents; default: the shoppers of `users`.
        counts: of search.item_popularity, without the score; default: `popularity`.
    """
    return SearchTables[Frame](
        documents=documents,
        users=users() if people is None else people,
        popularity=scored(popularity() if counts is None else counts),
        neighbours=neighbours(),
        segments=segments(),
        facets=facets(documents),
        terms=terms(documents),
        ease=ease(),
        fitted=fitted(),
    )


def meta(encoder: str = ENCODER, dimension: int = 4) -> ReleaseMeta:
    """Return the metadata of a new release."""
    made = new_release(encoder, dimension, "attributes@1", "none@1", None)
    return replace(made, fitted=FIT, fitted_dimension=2, popularity_days=30.0)


def publish(folder: Path, frame: pd.DataFrame | None = None) -> ReleaseSummary:
    """Publish the six items, or other documents, in a folder."""
    return build_release(folder, given(documents() if frame is None else frame), meta())
