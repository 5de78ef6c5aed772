"""The explanation is exact: its parts sum to the scores, whatever the history (a property)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.profiles import all_interests, all_vectors
from helpers.six_items import RANKING, documents, given, meta, popularity, users
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from vlm4rec_search import Hit, Query, open_index
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.search.explanation import FROM_HISTORY
from vlm4rec_search.search.query import Fusion

ITEMS = 30
KINDS = {"semantic": 1.0, "lexical": 1.0, "behaviour": 1.0, "popularity": 1.0}
weight = st.floats(-1, 1).filter(lambda value: abs(value) > 1e-3)
history = st.dictionaries(st.integers(0, ITEMS - 1), weight, min_size=1, max_size=12)


def catalogue(draw: np.random.Generator) -> pd.DataFrame:
    vectors = draw.standard_normal((ITEMS, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = np.array(["red", "blue", "lamp", "chair", "wood", "silk"])
    frame = pd.concat([documents()[:1]] * ITEMS, ignore_index=True)
    titles = [" ".join(draw.choice(words, 3)) for _ in range(ITEMS)]
    return frame.assign(item_id=[f"i{n:02d}" for n in range(ITEMS)], title=titles, vector=list(np.float32(vectors)))


@pytest.mark.parametrize(("profile", "fusion"), [("mean", "rrf"), ("interests", "minmax"), ("mean", "zscore")])
@drawn(seed=st.integers(0, 1000), histories=st.lists(history, min_size=4, max_size=4))
@settings(max_examples=4, deadline=None)
def test_shares_sum_to_the_scores(
    tmp_path_factory: pytest.TempPathFactory, profile: str, fusion: Fusion, seed: int, histories: list[dict[int, float]]
) -> None:
    items = catalogue(np.random.default_rng(seed))
    weights = {
        f"u{number}": pd.DataFrame(
            {"user_id": f"u{number}", "item_id": [f"i{place:02d}" for place in of], "weight": list(of.values())}
        )
        for number, of in enumerate(histories)
    }
    folder = tmp_path_factory.mktemp("index")
    near = neighbours(np.random.default_rng(seed))
    everybody = pd.concat([people(of, items) for of in weights.values()], ignore_index=True)
    build_release(folder, replace(given(items, everybody, popularity()), neighbours=near), meta())
    ranking = folder / "ranking.yaml"
    ranking.write_text(RANKING.read_text("utf-8").replace("profile: mean", f"profile: {profile}"), "utf-8")
    with open_index(str(folder), ranking=ranking) as index:
        for user, of in weights.items():
            query = Query(user=user, k=20, weights=KINDS, fusion=fusion, buy_again=True, explain=True)
            check(index.search(query).hits, of, items, near, profile)


def check(hits: Sequence[Hit], weights: pd.DataFrame, items: pd.DataFrame, near: pd.DataFrame, profile: str) -> None:
    assert hits
    for hit in hits:
        reason = hit.explanation
        assert reason is not None
        tastes = [leg.score for leg in reason.legs if leg.name in FROM_HISTORY]
        if tastes:
            expected = shares(weights, items, hit.item_id, profile)
            assert sum(expected.values()) == pytest.approx(max(tastes), abs=1e-5)
            told = {part.item_id: part.share for part in reason.history}
            assert told == pytest.approx({item: expected[item] for item in told}, abs=1e-5)
            rest = [share for item, share in expected.items() if item not in told]
            assert reason.rest == pytest.approx(sum(rest), abs=1e-5)
            liked = weights.loc[weights["weight"] > 0, "item_id"].tolist()
            others = [share for item, share in expected.items() if item != hit.item_id and item in liked]
            assert len(told) == min(3, sum(share > 0 for share in others))
        starts = near[near["item_id"].isin(weights["item_id"])]
        bought = starts.loc[starts["neighbour_id"] == hit.item_id, "similarity"].sum()
        assert sum(leg.score for leg in reason.legs if leg.kind == "behaviour") == pytest.approx(bought, abs=1e-5)
        assert sum(part.share for part in reason.bought_with) + reason.bought_rest == pytest.approx(bought, abs=1e-5)
        words = sum(leg.score for leg in reason.legs if leg.kind == "lexical")
        assert sum(part.share for part in reason.words) == pytest.approx(words, abs=1e-5)
        assert sum(leg.contribution for leg in reason.legs) + reason.boosted == pytest.approx(hit.score, abs=1e-9)
        assert sum(leg.share for leg in reason.legs) == pytest.approx(1.0)


def shares(weights: pd.DataFrame, items: pd.DataFrame, hit: str, profile: str) -> dict[str, float]:
    """Return the share of each item of the history, of several interests those of the nearest, from the weights."""
    vectors = dict(zip(items["item_id"], np.stack(items["vector"].tolist()).astype(np.float64), strict=True))
    of = dict(zip(weights["item_id"], weights["weight"], strict=True))
    groups = [list(of)] if profile == "mean" else [list(part) for part in all_interests(weights, items, 4)["items"]]
    found = []
    for group in groups:
        length = np.linalg.norm(np.sum([of[item] * vectors[item] for item in group], axis=0))
        found.append({item: float(of[item] * vectors[item] @ vectors[hit] / length) for item in group})
    return max(found, key=lambda parts: sum(parts.values()))


def neighbours(draw: np.random.Generator) -> pd.DataFrame:
    """Return search.item_neighbours: ten for each item."""
    rows = [(f"i{item:02d}", f"i{other:02d}", similarity)
            for item in range(ITEMS)
            for other, similarity in zip(draw.permutation(ITEMS)[:10], draw.uniform(0.1, 1, 10), strict=True)
            if other != item]  # fmt: skip
    return pd.DataFrame(rows, columns=["item_id", "neighbour_id", "similarity"])


def people(weights: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Return search.user_documents of one user with these weights, by the package's own arithmetic."""
    profiles, interests = all_vectors(weights, items), all_interests(weights, items, 4)
    starts = [{"item_id": item, "weight": 1.0} for item in weights["item_id"]]
    base = users()[:1].assign(
        user_id=weights["user_id"][0], behaviour=[starts], interests=[[]], history=[[]], vector=[None], seen=[[]]
    )
    if len(profiles):
        length = float(profiles["length"].iloc[0])
        scaled = [{"item_id": item, "weight": value / length}
                  for item, value in zip(weights["item_id"], weights["weight"], strict=True)]  # fmt: skip
        base = base.assign(vector=[np.array(profiles["vector"].iloc[0], dtype=np.float32)], history=[scaled])
    parts = interests[["vector", "importance", "medoid", "items"]].to_dict("records")
    return base.assign(interests=[parts])
