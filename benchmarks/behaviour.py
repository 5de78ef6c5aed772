"""EASE, co-purchases, and what similar shoppers took, beside the bare forms in numpy and scipy.

The log is generated: half of what a shopper takes is popular with all, half with a group of 1,000 shoppers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.measure import Contest
from vlm4rec_search.profiles.ease import ease_weights
from vlm4rec_search.profiles.neighbours import item_neighbours
from vlm4rec_search.profiles.shoppers import similar_shoppers
from vlm4rec_search.profiles.taken import Taken

HALF_LIVES = (120.0, 5.0)  # days
GROUP = 1_000  # shoppers


def make_likes(users: int, items: int, events: int) -> pd.DataFrame:
    """Return profiles.likes of a year: user_id, item_id, days."""
    rng = np.random.default_rng(7)
    shopper = rng.integers(0, users, events)
    popular = (items * rng.random(events) ** 3).astype(np.int64)
    groups = max(1, users // GROUP)
    own = shopper % groups * (items // groups) + rng.integers(0, max(1, items // groups), events)
    item = np.where(rng.random(events) < 0.5, popular, own)
    ids = {"user_id": np.char.add("u", shopper.astype(str)), "item_id": np.char.add("i", item.astype(str))}
    return pd.DataFrame({**ids, "days": rng.uniform(0.0, 365.0, events)})


def matrix(likes: pd.DataFrame) -> sparse.csr_array:
    """Return 1 for each item that a shopper took, float32 (u, n)."""
    users, items = likes["user_id"].astype("category"), likes["item_id"].astype("category")
    shape = len(users.cat.categories), len(items.cat.categories)
    taken = sparse.coo_array((np.ones(len(likes), dtype=np.float32), (users.cat.codes, items.cat.codes)), shape=shape)
    found = taken.tocsr()
    found.data[:] = 1.0
    return found


def bare_ease(likes: pd.DataFrame) -> object:
    """Steck's ten lines, and the largest 100 weights of each item."""
    taken = matrix(likes)
    gram = (taken.T @ taken).toarray()
    gram[np.diag_indices(len(gram))] += 100.0
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return np.argpartition(-np.abs(weights), min(100, len(weights) - 1), axis=1)[:, :100]


def bare_shoppers(likes: pd.DataFrame) -> object:
    """The cosine of all shoppers by blocks, the nearest 200, and their items."""
    taken = matrix(likes)
    lengths = np.sqrt(np.asarray(taken.sum(axis=1)).ravel())
    unit = sparse.csr_array(sparse.diags_array(1.0 / lengths) @ taken)
    best = []
    for low in range(0, taken.shape[0], 500):
        similar = (unit[low : low + 500] @ unit.T).toarray()
        if similar.shape[1] > 200:
            last = np.partition(similar, -200, axis=1)[:, -200]
            similar[similar < last[:, None]] = 0.0
        found = (sparse.csr_array(similar) @ taken).toarray()
        best.append(np.argpartition(-found, min(100, found.shape[1] - 1), axis=1)[:, :100])
    return best


def bare_neighbours(likes: pd.DataFrame) -> object:
    """A join of the log with itself in DuckDB, and the 50 nearest items of each."""
    return duckdb.sql("""
        WITH taken AS (SELECT DISTINCT user_id, item_id FROM likes),
        counts AS (SELECT item_id, COUNT(*) AS shoppers FROM taken GROUP BY item_id),
        pairs AS (
            SELECT a.item_id, b.item_id AS neighbour_id, COUNT(*) AS shoppers
            FROM taken AS a JOIN taken AS b ON a.user_id = b.user_id AND a.item_id <> b.item_id
            GROUP BY a.item_id, b.item_id
        )
        SELECT
            pairs.item_id, pairs.neighbour_id,
            pairs.shoppers / SQRT(own.shoppers * near.shoppers) * pairs.shoppers / (pairs.shoppers + 2) AS similarity
        FROM pairs
        JOIN counts AS own ON own.item_id = pairs.item_id
        JOIN counts AS near ON near.item_id = pairs.neighbour_id
        QUALIFY ROW_NUMBER() OVER (PARTITION BY pairs.item_id ORDER BY similarity DESC, pairs.neighbour_id) <= 50
    """).fetchnumpy()


@contextmanager
def behaviour(events: int) -> Iterator[Contest]:
    """Compute both tables from one log."""
    likes = make_likes(max(1, events // 20), max(1, events // 200), events)
    contest = Contest(rounds=(2, 5), seconds=15.0)
    contest.ours("EASE", lambda: ease_weights(Taken.from_likes(likes), HALF_LIVES, 100.0))
    contest.ours("similar shoppers", lambda: list(similar_shoppers(Taken.from_likes(likes), HALF_LIVES)))
    contest.ours("co-purchases", lambda: list(item_neighbours(Taken.from_likes(likes), 365.0)))
    contest.rival("EASE in numpy", lambda: lambda: bare_ease(likes), ["EASE"])
    contest.rival("co-purchases in SQL", lambda: lambda: bare_neighbours(likes), ["co-purchases"])
    contest.rival("cosines in scipy", lambda: lambda: bare_shoppers(likes), ["similar shoppers"])
    yield contest
