"""EASE, user-kNN and the pace of a shop, against numbers that follow from their definitions."""

from collections.abc import Callable
from dataclasses import fields

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy import sparse
from sqlglot import exp

from vlm4rec_search.profiles import ease
from vlm4rec_search.profiles.ease import NEIGHBOURS, ease_weights, regularised_inverse, solve_ease
from vlm4rec_search.profiles.neighbours import LATEST, item_neighbours, similar_items
from vlm4rec_search.profiles.neighbours import NEIGHBOURS as NEAREST
from vlm4rec_search.profiles.pace import FEWEST_SHOPPERS, USUAL, choose_pace
from vlm4rec_search.profiles.shoppers import CANDIDATES, similar_shoppers
from vlm4rec_search.profiles.taken import Events, Taken
from vlm4rec_search.profiles.trials import choose_near


def taken_by_similar(taken: Taken, half_lives: tuple[float, float]) -> dict[str, dict[str, float]]:
    """Return the scores of the items of each shopper, in their order."""
    frames = similar_shoppers(taken, half_lives)
    rows = [row for frame in frames for row in zip(frame["user_id"], frame["items"], strict=True)]
    return {user: {item["item_id"]: item["score"] for item in items} for user, items in rows}


def events(rows: list[tuple[str, str, float]]) -> Events:
    return Events.from_likes(pd.DataFrame(rows, columns=["user_id", "item_id", "days"]))


def log(rows: list[tuple[str, str, float]]) -> Taken:
    return events(rows).before(0.0)


@drawn(
    seed=st.integers(0, 1_000),
    regularisation=st.sampled_from([0.5, 5.0, 50.0]),
    shoppers=st.sampled_from([6, 8, 30]),  # fewer than items, as many, and more
)
@settings(max_examples=30, deadline=None)
def test_ease_minimises_its_loss(seed: int, regularisation: float, shoppers: int) -> None:
    draw = np.random.default_rng(seed)
    shape = (shoppers, 8)
    history, taken = (np.float32(draw.random(shape) * (draw.random(shape) < 0.4)) for _ in range(2))
    weights = solve_ease(sparse.csr_array(history), sparse.csr_array(taken), regularisation)

    def loss(values: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.square(taken - history @ values).sum() + regularisation * np.square(values).sum())

    assert np.diag(weights).tolist() == [0.0] * 8
    for _ in range(20):
        other = weights + draw.normal(0, 0.02, weights.shape).astype(np.float32)
        np.fill_diagonal(other, 0.0)
        assert loss(other) > loss(weights)


def test_events_that_are_long_forgotten_make_no_subnormal_numbers() -> None:
    draw = np.random.default_rng(3)
    history = np.float32(0.5 ** (60 + 10 * draw.random((40, 60))) * (draw.random((40, 60)) < 0.3))
    gram = history.T @ history
    exact = np.linalg.inv(gram.astype(np.float64) + 3.0 * np.eye(60))
    found = np.abs(regularised_inverse(gram, 3.0))
    assert np.abs(found - np.abs(exact)).max() < 1e-6
    assert found[found > 0].min() > np.finfo(np.float32).tiny
    assert np.abs(exact).min() < np.finfo(np.float32).tiny


def test_ease_of_sparse_histories_is_that_of_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    history, taken = (sparse.random_array((300, 150), density=0.05, rng=draw, dtype=np.float32) for _ in range(2))
    found = []
    for speed in (0, 1_000):
        monkeypatch.setattr(ease, "_DENSE_SPEED", speed)
        found.append(solve_ease(history.tocsr(), taken.tocsr(), 5.0))
    assert np.abs(found[0] - found[1]).max() < 1e-6
    assert np.abs(found[0]).max() > 0.01


def test_ease_keeps_the_largest_weights_negative_ones_too() -> None:
    draw = np.random.default_rng(2)
    rows = [(f"u{user:03d}", f"i{item:03d}", float(draw.integers(0, 90)))
            for user in range(60) for item in draw.choice(150, 12, replace=False)]  # fmt: skip
    weights = ease_weights(log(rows), (90.0, 30.0), 3.0)
    sizes = weights.assign(size=weights["weight"].abs()).groupby("item_id")["size"]
    assert weights.groupby("item_id").size().max() == NEIGHBOURS
    assert (weights["weight"] < 0).any()
    assert all(
        of["size"].is_monotonic_decreasing for _, of in weights.assign(size=weights["weight"].abs()).groupby("item_id")
    )
    assert sizes.min().gt(0).all()
    assert (weights["item_id"] != weights["neighbour_id"]).all()


def test_empty_histories_have_no_weights() -> None:
    assert len(ease_weights(log([]), (60.0, 60.0), 3.0)) == 0
    assert taken_by_similar(log([]), (60.0, 60.0)) == {}
    assert len(ease_weights(log([("u", "a", 0.0)]), (60.0, 60.0), 3.0)) == 0
    assert taken_by_similar(log([("u", "a", 0.0)]), (60.0, 60.0)) == {}


@pytest.mark.parametrize("candidates", [CANDIDATES, 4])  # more than there are items, and fewer
@pytest.mark.parametrize("cells", [4_000_000, 400, 1])
def test_similar_shoppers_equal_a_plain_computation(
    monkeypatch: pytest.MonkeyPatch, candidates: int, cells: int
) -> None:
    monkeypatch.setattr("vlm4rec_search.profiles.shoppers.CANDIDATES", candidates)
    monkeypatch.setattr("vlm4rec_search.profiles.shoppers._CELLS", cells)
    draw = np.random.default_rng(4)
    rows = [(f"u{user:02d}", f"i{item:02d}", float(draw.integers(0, 100)))
            for user in range(40) for item in draw.choice(30, draw.integers(1, 9), replace=False)]  # fmt: skip
    found = taken_by_similar(log(rows), (50.0, 20.0))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "days"])
    wide = frame.pivot_table(index="user_id", columns="item_id", values="days", aggfunc="min")
    history, recent = (np.exp2(-wide / half_life).fillna(0.0).to_numpy() for half_life in (50.0, 20.0))
    unit = history / np.linalg.norm(history, axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, 0.0)
    scores = np.where(history > 0, 0.0, similar @ recent)  # fewer shoppers than neighbours: all count
    scores /= scores.max(axis=1, keepdims=True)
    assert list(found) == [user for user, row in zip(wide.index, scores, strict=True) if row.max() > 5e-5]
    for user, items in found.items():
        expected = scores[wide.index.get_loc(user)]
        assert list(items.values()) == pytest.approx(
            sorted(expected[expected > 5e-5], reverse=True)[:candidates], abs=1e-4
        )
        assert list(items) == sorted(items, key=lambda item: (-items[item], item))


def test_of_candidates_with_equal_scores_the_first_items_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are equal once they are rounded: i1 was taken a minute before i2."""
    monkeypatch.setattr("vlm4rec_search.profiles.shoppers.CANDIDATES", 2)
    rows = [("u1", "a", 0.0), ("u2", "a", 0.0), ("u2", "i0", 0.0), ("u2", "i1", 30.001), ("u2", "i2", 30.0)]
    assert taken_by_similar(log(rows), (365.0, 30.0))["u1"] == {"i0": 1.0, "i1": 0.5}


def test_blocks_of_shoppers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("u1", "a", 1.0), ("u2", "a", 3.0), ("u2", "b", 2.0), ("u3", "a", 9.0), ("u3", "c", 8.0), ("u4", "d", 1.0)]
    found = taken_by_similar(log(rows), (30.0, 10.0))
    assert list(found) == ["u1", "u2", "u3"]
    monkeypatch.setattr("vlm4rec_search.profiles.shoppers.BLOCK", 1)
    assert taken_by_similar(log(rows), (30.0, 10.0)) == found


def test_another_moment_alone_changes_no_similar_shopper() -> None:
    rows = [("u1", "a", 1.0), ("u2", "a", 3.0), ("u2", "b", 2.0), ("u3", "a", 9.0), ("u3", "c", 8.0)]
    later = [(user, item, days + 40.0) for user, item, days in rows]
    found = taken_by_similar(log(rows), (30.0, 10.0))
    assert found
    assert taken_by_similar(log(later), (30.0, 10.0)) == found


def test_the_past_of_a_log_counts_ages_from_there() -> None:
    rows = [("u", "a", 9.0), ("u", "a", 6.0), ("u", "a", 1.0), ("u", "b", 3.0), ("v", "a", 12.0)]
    past = events(rows).before(5.0)
    assert past.first.tolist() == [4.0, 7.0]
    assert past.last.tolist() == [1.0, 7.0]  # that u took a again one day ago was not known then
    assert (past.user_ids[past.users].tolist(), past.item_ids[past.items].tolist()) == (["u", "v"], ["a", "a"])


def fashion(weeks: int, every: int, seed: int) -> Events:
    """Return a log in which everybody takes items of one shelf, which changes after each so many weeks."""
    draw = np.random.default_rng(seed)
    rows = []
    for week in range(weeks):
        shelf = 10 * (week // every)
        for user in draw.choice(300, 120, replace=False):
            rows += [(f"u{user:03d}", f"i{item:03d}", 7.0 * (weeks - week)) for item in shelf + draw.choice(20, 2)]
    return events(rows)


def steady(seed: int) -> Events:
    """Return a log in which everybody takes items of a shelf that stays the same, eight in a hundred weeks."""
    draw = np.random.default_rng(seed)
    rows = [
        (f"u{user:03d}", f"i{10 * (user % 10) + item:03d}", 7.0 * draw.integers(0, 100))
        for user in range(300)
        for item in draw.choice(20, 8, replace=False)
    ]
    return events(rows)


def test_a_shop_whose_shelf_changes_forgets_fast_and_a_steady_one_slowly() -> None:
    def paces(log: Callable[[int], Events]) -> pd.DataFrame:
        found = []
        for seed in range(3):
            trials = choose_pace(log(seed))
            assert trials["shoppers"].min() >= FEWEST_SHOPPERS
            assert trials.groupby("parameter")["chosen"].sum().to_dict() == dict.fromkeys(USUAL, 1)
            found.append(trials[trials["chosen"]].set_index("parameter")["value"])
        return pd.DataFrame(found).drop(columns="regularisation")

    changing, unchanging = paces(lambda seed: fashion(30, 2, seed)), paces(steady)
    assert (changing[["pace_days", "co_purchase_days"]] < 60.0).all().all()
    assert (changing[["shoppers_half_life_days", "popularity_days"]] < 30.0).all().all()
    assert (unchanging[["pace_days", "shoppers_half_life_days"]] > 60.0).all().all()
    assert (unchanging["co_purchase_days"] == USUAL["co_purchase_days"]).all()


def test_in_logs_of_pure_chance_most_usual_values_stay() -> None:
    stayed = []
    for seed in range(6):
        draw = np.random.default_rng(seed)
        rows = zip(*(draw.integers(most, size=4_000).tolist() for most in (200, 500, 365)), strict=True)
        trials = choose_pace(events([(f"u{user:03d}", f"i{item:03d}", float(days)) for user, item, days in rows]))
        assert trials["ndcg"].notna().all()
        stayed.append(trials[trials["chosen"]].set_index("parameter")["value"].eq(pd.Series(USUAL)))
    assert pd.DataFrame(stayed).mean().mean() > 0.6


def test_the_value_nearest_to_the_usual_one_is_chosen_on_the_side_of_the_best() -> None:
    chance = np.random.default_rng(0).normal(0.0, 0.1, 400)

    def chosen(**means: float) -> float:
        """Choose by means of the values 1 to 5, of which 3 is the usual one; a standard error is 0.005."""
        noise = {value: np.roll(chance, value) for value in range(1, 6)}
        values = {float(value): noise[value] - noise[value].mean() + means[f"v{value}"] for value in noise}
        return choose_near(3.0, values)

    assert chosen(v1=0.0, v2=0.0, v3=0.2, v4=0.0, v5=0.201) == 3.0, "the usual one is nearly as good as the best"
    assert chosen(v1=0.25, v2=0.249, v3=0.2, v4=0.249, v5=0.0) == 2.0, "nearer than the best, and on its side"
    assert chosen(v1=0.25, v2=0.1, v3=0.2, v4=0.249, v5=0.249) == 1.0, "not the one that is worse than the usual one"


def test_staples_that_are_bought_every_week_are_not_old_in_the_past() -> None:
    draw = np.random.default_rng(3)
    rows = []
    for user in range(120):
        staples = 10 * (user % 6) + draw.choice(10, 4, replace=False)
        first = draw.integers(20, 60, 4)  # weeks ago
        rows += [(f"u{user:03d}", f"i{item:02d}", 7.0 * week) for item, since in zip(staples, first, strict=True)
                 for week in range(since)]  # fmt: skip
    trials = choose_pace(events(rows)).set_index(["parameter", "value"])["ndcg"]
    assert trials["co_purchase_days", 30.0] > 0.9 * trials["co_purchase_days", 36_500.0]


def test_a_shop_without_a_history_gets_the_usual_pace() -> None:
    trials = choose_pace(events([("u", "a", 1.0)]))
    assert dict(zip(trials["parameter"], trials["value"], strict=True)) == USUAL
    assert trials["ndcg"].isna().all()


@pytest.mark.parametrize("pairs", [4_000_000, 2_000, 1])  # in one block, in some, and each item in its own
def test_neighbours_equal_a_plain_computation(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr("vlm4rec_search.profiles.neighbours._PAIRS", pairs)
    draw = np.random.default_rng(5)
    rows = [(f"u{user:02d}", f"i{item:03d}", float(draw.integers(0, 100)))
            for user in range(50) for item in draw.choice(120, draw.integers(1, 60), replace=False)]  # fmt: skip
    blocks = list(item_neighbours(log(rows), 80.0))
    assert (len(blocks) == 1) == (pairs == 4_000_000)
    found = pd.concat(blocks)
    assert found["item_id"].is_monotonic_increasing
    sets = {item: {user for user, other, days in rows if other == item and days < 80.0} for _, item, _ in rows}
    for item, own in sets.items():
        shared = {other: len(own & sets[other]) for other in sets if other != item and own & sets[other]}
        similar = {other: round(both / np.sqrt(len(own) * len(sets[other])) * both / (both + 2), 12)
                   for other, both in shared.items()}  # fmt: skip
        nearest = sorted(similar, key=lambda other: (-similar[other], other))[:NEAREST]
        of = found[found["item_id"] == item]
        assert of["neighbour_id"].tolist() == nearest
        assert of["similarity"].tolist() == pytest.approx([similar[other] for other in nearest])
        assert of["rank"].tolist() == list(range(1, len(nearest) + 1))


def test_one_shared_shopper_says_less_than_many_and_still_something() -> None:
    rows = [("u00", "rare", 1.0), ("u00", "bought", 1.0)]
    rows += [(f"u{user:02d}", "bought", 1.0) for user in range(1, 5)]
    rows += [(f"u{user:02d}", "known", 1.0) for user in range(1, 21)]
    found = pd.concat(item_neighbours(log(rows), 30.0))
    of_bought = found[found["item_id"] == "bought"]
    assert of_bought["neighbour_id"].tolist() == ["known", "rare"]
    cosines = np.array([4 / np.sqrt(5 * 20), 1 / np.sqrt(5)])  # 0.40 and 0.45
    assert of_bought["similarity"].tolist() == pytest.approx(cosines * [4 / 6, 1 / 3])
    alone = pd.concat(item_neighbours(log(rows[:2]), 30.0))
    assert alone["similarity"].tolist() == pytest.approx([1 / 3, 1 / 3])  # a shop of one shopper keeps its pairs
    assert similar_items(log(rows)).max() == pytest.approx(found["similarity"].max())


def test_equal_similarities_are_in_the_order_of_ids_whatever_counts_they_come_from() -> None:
    rows = [(f"u{user}", "many", 1.0) for user in range(9)]
    rows += [("u0", "item", 1.0), ("u1", "item", 1.0), ("u0", "one", 1.0)]
    found = pd.concat(item_neighbours(log(rows), 30.0))
    of_item = found[found["item_id"] == "item"]
    # 2 / sqrt(2 x 9) x 2 / 4 and 1 / sqrt(2 x 1) x 1 / 3 are the same number, but not in their last bit.
    assert of_item["neighbour_id"].tolist() == ["many", "one"]
    assert of_item["similarity"].nunique() == 1


def test_only_the_latest_items_of_a_reseller_make_pairs() -> None:
    rows = [("reseller", f"i{item:03d}", float(item)) for item in range(LATEST + 20)]
    found = pd.concat(item_neighbours(log(rows), 1_000.0))
    assert set(found["item_id"]) == {f"i{item:03d}" for item in range(LATEST)}


def test_similar_shoppers_are_those_of_the_latest_events(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("u1", "a", 9.0), ("u2", "a", 1.0), ("u2", "b", 2.0), ("u3", "a", 2.0), ("u3", "c", 3.0),
            ("u4", "a", 5.0), ("u4", "d", 5.0)]  # fmt: skip
    monkeypatch.setattr("vlm4rec_search.profiles.shoppers.POOL", 2)
    assert set(taken_by_similar(log(rows), (30.0, 10.0))["u1"]) == {"b", "c"}  # d was taken before the latest events


def test_pairs_of_a_table_are_those_of_its_rows() -> None:
    rows = pd.DataFrame(
        [("u2", "ä", 3.0), ("u1", "z", 5.0), ("u1", "z", 2.0), ("u1", "a", 7.0)], columns=["user_id", "item_id", "days"]
    )
    with duckdb.connect() as connection:
        connection.register("profiles_likes", rows)

        def fetch(query: exp.Expr) -> pd.DataFrame:
            return connection.execute(query.sql(dialect="duckdb")).df()

        read, of_events = Taken.read(fetch, "profiles_likes"), Events.read(fetch, "profiles_likes").before(0.0)
    made = Taken.from_likes(rows)
    for field in fields(Taken):
        expected = getattr(made, field.name).tolist()
        assert getattr(read, field.name).tolist() == getattr(of_events, field.name).tolist() == expected
