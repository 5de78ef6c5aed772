"""Search tables of whole catalogues in a second, without a plan: the built-in shop and, where it is, Magento's luma.

Texts are the catalogues'; histories are drawn with a fixed seed, and the package's own arithmetic makes the profiles.
"""

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd

from helpers.derived_tables import facets, scored, terms, with_text
from helpers.profiles import all_interests, all_vectors
from helpers.workspace import ROOT
from vlm4rec_search.datasets.demo_shop.catalogue import draw_items
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.profiles import term_weights
from vlm4rec_search.profiles.ease import ease_weights
from vlm4rec_search.profiles.shoppers import similar_shoppers
from vlm4rec_search.profiles.taken import Taken
from vlm4rec_search.search.release import ReleaseMeta

ENCODER, DIMENSION = "hashing-64", 64
SHOPPERS, HISTORY, FITTED = 40, 12, 16
LUMA = ROOT.parent / "shared" / "data" / "magento_luma" / "items.jsonl"


def made() -> ReleaseMeta:
    made = new_release(f"{ENCODER}@1", DIMENSION, "attributes@1", "none@1", None)
    return replace(made, fitted="gating@1", fitted_dimension=FITTED)


def shop() -> pd.DataFrame:
    """Return 300 items of the built-in shop, whose captions are what a perfect captioner would write."""
    items = draw_items("photo", 300, np.random.default_rng(11))
    rows = [
        (item.item_id, item.title, item.description, f"{item.category} in {item.style}, {item.material}, {item.use}",
         f"{item.category}, {item.brand}, {item.season}", item.category, item.price, item.available,
         json.dumps({"brand": item.brand, "season": item.season}))
        for item in items
    ]  # fmt: skip
    names = ["item_id", "title", "description", "caption", "details", "category", "price", "available", "attributes"]
    return pd.DataFrame(rows, columns=names)


def luma() -> pd.DataFrame:
    """Return the 417 items of Magento's sample data; many differ in the colour alone."""
    rows = [json.loads(line) for line in LUMA.read_text("utf-8").splitlines()]
    frame = pd.DataFrame({"item_id": [row["id"] for row in rows], "title": [row["title"] for row in rows]})
    frame["description"] = [row["description"] for row in rows]
    frame["caption"] = None
    frame["details"] = [", ".join([*row["categories"], row["color"] or ""]) for row in rows]
    frame["category"] = [row["categories"][0] if row["categories"] else None for row in rows]
    frame["price"] = [float(row["price"]) for row in rows]
    frame["available"] = True
    frame["attributes"] = [json.dumps({"brand": row["parent_sku"], "categories": row["categories"]}) for row in rows]
    return frame


def tables(catalogue: pd.DataFrame, history: int = HISTORY) -> SearchTables[Frame]:
    """Return the search layer of a catalogue with drawn shoppers u00, u01, ..., and s00, s01, s02 without a history.

    Args:
        catalogue: items, see `shop`.
        history: items of each drawn shopper.
    """
    encode = load_sentence_encoder(ENCODER).encode
    texts = catalogue["title"] + " " + catalogue["description"].fillna("") + " " + catalogue["caption"].fillna("")
    whole = catalogue.assign(vector=list(encode(texts.tolist())), image=None, encoder=f"{ENCODER}@1")
    whole = whole.assign(captioner="attributes@1", content_hash=whole["item_id"])
    fitted = _fitted(catalogue["item_id"])
    log = _log(catalogue["item_id"].to_numpy(dtype=object), history)
    counts = log["item_id"].value_counts()
    popularity = {"item_id": counts.index, "shoppers": counts.to_numpy(), "recent": counts.to_numpy() // 2}
    return SearchTables[Frame](
        documents=whole,
        users=_people(log, whole, fitted),
        popularity=scored(pd.DataFrame(popularity)),
        neighbours=_neighbours(log),
        segments=_segments(log, catalogue),
        facets=facets(whole),
        terms=terms(whole),
        ease=ease_weights(Taken.from_likes(log.assign(days=1.0)), (60.0, 60.0), 3.0),
        fitted=fitted,
    )


@cache
def shop_tables() -> SearchTables[Frame]:
    """Return the search layer of the built-in shop; tests leave its frames as they are."""
    return tables(shop())


def _fitted(ids: "pd.Series[str]") -> pd.DataFrame:
    """Return drawn vectors in the place of learned ones, for two items of three."""
    drawn = np.random.default_rng(9).normal(size=(len(ids), FITTED)).astype(np.float32)
    vectors = list(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    return pd.DataFrame({"item_id": ids, "fit": "gating@1", "vector": vectors})[ids.index.to_numpy() % 3 > 0]


def _log(ids: np.ndarray, history: int) -> pd.DataFrame:  # type: ignore[type-arg]
    draw = np.random.default_rng(5)
    odds = 1.0 / (10.0 + draw.permutation(len(ids)))
    picks = [draw.choice(ids, history, replace=False, p=odds / odds.sum()) for _ in range(SHOPPERS)]
    names = np.repeat([f"u{number:02d}" for number in range(SHOPPERS)], history)
    return pd.DataFrame({"user_id": names, "item_id": np.concatenate(picks)})


def _people(log: pd.DataFrame, items: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    weights = log.assign(weight=0.9 ** (log.groupby("user_id").cumcount()))
    profiles = all_vectors(weights, items).set_index("user_id")
    learned = all_vectors(weights, fitted).set_index("user_id")
    interests = all_interests(weights, items, 3).groupby("user_id")
    words = term_weights(weights, with_text(items), 64).groupby("user_id")
    blocks = similar_shoppers(Taken.from_likes(log.assign(days=1.0)), (60.0, 60.0))
    similar = {user: items for block in blocks for user, items in zip(block["user_id"], block["items"], strict=True)}
    rows = []
    for user, of in weights.groupby("user_id"):
        length = profiles.loc[user, "length"]
        history = [{"item_id": item, "weight": weight / length}
                   for item, weight in zip(of["item_id"], of["weight"], strict=True)]  # fmt: skip
        behaviour = [{"item_id": item, "weight": 1.0, "lasting": 0.5} for item in of["item_id"][:5]]
        again = [{"item_id": item, "score": 1 / times, "times": times, "last_on": f"2025-02-0{times}"}
                 for times, item in enumerate(of["item_id"][:3], 1)]  # fmt: skip
        alike = list(similar.get(user, []))
        weighted = words.get_group(user)[["term", "word", "weight"]].to_dict("records")
        tastes = interests.get_group(user)[["vector", "importance", "medoid", "items"]].to_dict("records")
        vector = np.array(profiles.loc[user, "vector"], dtype=np.float32)
        rows.append(
            (
                user,
                len(of),
                vector,
                history,
                of["item_id"].tolist(),
                weighted,
                tastes,
                behaviour,
                alike,
                again,
                None,
                [],
                np.array(learned.loc[user, "vector"], dtype=np.float32) if user in learned.index else None,
            )
        )
    rows += [(f"s{number:02d}", 0, None, [], [], [], [], [], [], [], segment, ["gone"], None)
             for number, segment in enumerate(["young", "nobody", None])]  # fmt: skip
    names = [
        "user_id",
        "items",
        "vector",
        "history",
        "seen",
        "terms",
        "interests",
        "behaviour",
        "shoppers",
        "repeats",
        "segment",
        "categories",
        "fitted",
    ]
    return pd.DataFrame(rows, columns=names)


def _neighbours(log: pd.DataFrame) -> pd.DataFrame:
    pairs = Counter(pair for _, of in log.groupby("user_id") for pair in combinations(sorted(of["item_id"]), 2))
    rows = [row for (one, other), count in pairs.items()
            for row in ((one, other, count / SHOPPERS), (other, one, count / SHOPPERS))]  # fmt: skip
    return pd.DataFrame(rows, columns=["item_id", "neighbour_id", "similarity"])


def _segments(log: pd.DataFrame, catalogue: pd.DataFrame) -> pd.DataFrame:
    counts = log["item_id"].value_counts().rename_axis("item_id").reset_index(name="shoppers")
    categories = counts.merge(catalogue[["item_id", "category"]]).dropna()
    young = counts[:20].assign(segment="young")
    return pd.concat([young, categories.assign(segment="category:" + categories["category"])])[
        ["segment", "item_id", "shoppers"]
    ]
