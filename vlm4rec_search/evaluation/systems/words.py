"""BM25 with the titles of the last items as the query: the product's own analyzer and weights, without its profiles."""

import numpy as np
from scipy import sparse

from vlm4rec_search.evaluation.data import Ints, Scores, Split, Targets
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System

LAST = 10


class BM25(System):
    """BM25 over titles; the query is the titles of the ten items that the user took last."""

    name = "bm25"

    def __init__(self, last: int = LAST) -> None:
        self.last = last

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Weigh the titles of the candidates and of the histories' items."""
        from vlm4rec_search.common.bm25 import bm25, count_terms

        # Titles of items that do not exist yet must not weigh terms.
        exists = split.candidates | (split.popularity > 0)
        texts = [title if known else None for title, known in zip(split.catalogue.titles, exists, strict=True)]
        counts = count_terms(texts).counts
        self._weights = sparse.csr_array(bm25(counts).T)
        self._queries = sparse.csr_array(last_items(split, self.last) @ counts)

    def scores(self, users: Ints) -> Scores:
        """Return sums of BM25, float32 (b, n); items without a common word are not ranked."""
        found = (self._queries[users] @ self._weights).toarray()
        return np.where(found > 0, found, NOT_FOUND).astype(np.float32)


def last_items(split: Split, last: int) -> sparse.csr_array:
    """Return float32 (u, n) with 1 for the different items that each user took last, at most `last` of them."""
    backwards = np.arange(len(split.users))[::-1]
    pairs = split.users[backwards] * split.shape[1] + split.items[backwards]
    _, newest = np.unique(pairs, return_index=True)
    rows = np.sort(backwards[newest])  # the last time of each pair, in order of user and time
    users = split.users[rows]
    ends = np.searchsorted(users, np.arange(split.shape[0]), side="right")
    kept = ends[users] - np.arange(len(rows)) <= last
    cells = (np.ones(int(kept.sum()), dtype=np.float32), (users[kept], split.items[rows[kept]]))
    return sparse.coo_array(cells, shape=split.shape).tocsr()
