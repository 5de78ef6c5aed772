"""Co-purchases: for each item, the items whose shoppers overlap most with its own."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.profiles.histories import Cells, largest_cells, of_cells, row_blocks
from vlm4rec_search.profiles.taken import Taken

NEIGHBOURS = 50  # of each item
LATEST = 100
"""Items of a shopper that count. Resellers with thousands of items would make millions of pairs and worse neighbours
(Online Retail, validation part: R@10 0.048 with all items, 0.052 with 100)."""
SHRINKAGE = 2
"""Shared shoppers at which a similarity is half of its cosine (Koren, KDD 2008); a single one leaves a third.
Without, two rare items of one shopper come first, with a cosine of 1. nDCG@10 of co-purchases alone in windows of
time was better in 15 of 17 logs and worse in none: 0.104 for 0.081 in Online Retail, 0.151 for 0.069 in MovieLens.
For the last item of each shopper it was better in 5 of 9 logs and worse in one, by 0.002. With 5 and 10 it was worse
in a dense log of ratings, and a least number of shared shoppers leaves small shops without neighbours."""
_DECIMALS = 12  # equal similarities differ in the last bit where they come from other counts
_PAIRS = 500_000  # of a shopper's items, that are in memory at once: 6 MB, a few times


def item_neighbours(taken: Taken, days: float) -> Iterator[pd.DataFrame]:
    """Yield the `NEIGHBOURS` items that share most shoppers with each item, in blocks of items.

    similarity(i, j) = n / sqrt(shoppers of i x shoppers of j) x n / (n + `SHRINKAGE`), where n shoppers have both: the
    cosine of the two sets, shrunk by little support. An item has the shoppers among whose `LATEST` items it is. Equal
    similarities are ordered by the id of the neighbour.

    Args:
        taken: who took what, and how long ago.
        days: events of so many days count.

    Yields:
        item_id, neighbour_id, similarity, rank (from 1), by item_id and rank.
    """
    for rows, columns, similarities, ranks in _nearest(taken.within(days)):
        yield pd.DataFrame(
            {
                "item_id": taken.item_ids[rows],
                "neighbour_id": taken.item_ids[columns],
                "similarity": similarities,
                "rank": ranks,
            }
        )


def similar_items(taken: Taken) -> sparse.csr_array:
    """Return the same similarities of all that was taken, (n, n), without what is not among the `NEIGHBOURS`."""
    parts = [(each.values, each.rows, each.columns) for each in _nearest(taken)]
    size = len(taken.item_ids)
    if not parts:
        return sparse.csr_array((size, size))
    similarities, rows, columns = map(np.concatenate, zip(*parts, strict=True))
    return sparse.coo_array((similarities, (rows, columns)), shape=(size, size)).tocsr()


def _nearest(taken: Taken) -> Iterator[Cells]:
    latest = taken.latest(LATEST)
    shape = (len(latest.user_ids), len(latest.item_ids))
    took = sparse.coo_array((np.ones(len(latest.users), np.float32), (latest.users, latest.items)), shape=shape).tocsr()
    by_item = took.T.tocsr()
    shoppers = np.diff(by_item.indptr).astype(np.float64)
    for low, high in row_blocks(by_item @ np.diff(took.indptr), _PAIRS):
        yield _of_block(by_item, took, shoppers, low, high)


def _of_block(by_item: sparse.csr_array, took: sparse.csr_array, shoppers: Floats, low: int, high: int) -> Cells:
    """Return the neighbours of the items from `low` to `high`."""
    shared = by_item[low:high] @ took
    rows = of_cells(shared, np.arange(low, low + shared.shape[0]))
    cosines = shared.data / np.sqrt(shoppers[rows] * shoppers[shared.indices])
    similarities = (cosines * shared.data / (shared.data + SHRINKAGE)).round(_DECIMALS)
    similarities[rows == shared.indices] = 0.0  # no item is its own neighbour
    similar = sparse.csr_array((similarities, shared.indices, shared.indptr), shape=shared.shape)
    found = largest_cells(similar, NEIGHBOURS)
    return Cells(found.rows + low, found.columns, found.values, found.ranks)
