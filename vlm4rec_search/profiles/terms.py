"""The weighted words of each history, as a sparse matrix product: users x items times items x terms."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.bm25 import count_terms
from vlm4rec_search.profiles.histories import Floats, Integers, histories

TEXTS = ("title", "description", "caption")
_BLOCK = 4_000_000  # (user, term) pairs held at once: about 200 MB


class Terms(NamedTuple):
    """The words of the catalogue: names and words are sorted by term, occurs is items x terms with 1 where it does."""

    names: npt.NDArray[np.object_]
    words: npt.NDArray[np.object_]
    occurs: sparse.csr_array
    idf: Floats


def term_weights(weights: pd.DataFrame, documents: pd.DataFrame, per_user: int = 32) -> pd.DataFrame:
    """Return the words that tell each user's history from the catalogue.

    weight(user, term) = idf(term) x sum of the weights of the history's items whose text has the term, divided by
    the user's largest; idf as in Lucene's BM25, ln(1 + (N - df + 0.5) / (df + 0.5)) over the items' whole texts.

    Args:
        weights: user_id, item_id, weight.
        documents: item_id (unique), title, description, caption (text or missing).
        per_user: how many terms are kept; terms of weight 0 or less never are.

    Returns:
        user_id, term (analyzed), word (its most frequent surface form), weight (1 for the user's first term), rank
        (from 1), by user_id and rank; equal weights are ordered by term.

    Raises:
        RunError: a weight that is not finite.
    """
    users, matrix = histories(weights, documents["item_id"])
    terms = _count_terms(documents)
    parts = [_top_terms(matrix[low:high], terms, per_user, low) for low, high in _blocks(matrix, terms)]
    rows, columns, values, ranks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return pd.DataFrame(
        {
            "user_id": users[rows.astype(np.int64)],
            "term": terms.names[columns.astype(np.int64)],
            "word": terms.words[columns.astype(np.int64)],
            "weight": values,
            "rank": ranks.astype(np.int64),
        }
    )


def _count_terms(documents: pd.DataFrame) -> Terms:
    terms, words, counts = count_terms(_whole_texts(documents))
    frequency = np.bincount(counts.indices, minlength=len(terms))
    idf = np.log1p((len(documents) - frequency + 0.5) / (frequency + 0.5))
    occurs = sparse.csr_array((np.ones(counts.nnz), counts.indices, counts.indptr), shape=counts.shape)
    return Terms(np.array(terms, dtype=object), np.array(words, dtype=object), occurs, idf)


def _whole_texts(documents: pd.DataFrame) -> Iterator[str]:
    for parts in zip(*(documents[name] for name in TEXTS), strict=True):
        yield "\n".join(part for part in parts if isinstance(part, str))


def _blocks(matrix: sparse.csr_array, terms: Terms) -> Iterator[tuple[int, int]]:
    """Yield ranges of users whose histories hold about `_BLOCK` (item, term) pairs; always at least one range."""
    sizes = np.diff(terms.occurs.indptr)
    pairs = np.concatenate([[0], np.cumsum(sizes[matrix.indices])])[matrix.indptr]
    low, users = 0, matrix.shape[0]
    while True:
        high = max(low + 1, int(np.searchsorted(pairs, pairs[low] + _BLOCK, side="right")) - 1)
        yield low, min(high, users)
        low = high
        if low >= users:
            return


def _top_terms(block: sparse.csr_array, terms: Terms, per_user: int, first: int) -> tuple[Integers, ...]:
    """Return rows, term columns, weights and ranks of the best terms of each user of a block."""
    scores = sparse.csr_array(block @ terms.occurs)
    scores.sort_indices()  # equal weights then stay in the order of the terms
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    values = scores.data * terms.idf[scores.indices]
    positive = values > 0
    rows, columns, values = rows[positive], scores.indices[positive], values[positive]
    best = np.zeros(scores.shape[0])
    np.maximum.at(best, rows, values)
    values = values / best[rows]
    order = np.argsort(2.0 * rows - values, kind="stable")
    rows, columns, values = rows[order], columns[order], values[order]
    starts = np.searchsorted(rows, np.arange(scores.shape[0]))
    ranks = np.arange(len(rows)) - starts[rows] + 1
    kept = ranks <= per_user
    return rows[kept] + first, columns[kept], values[kept], ranks[kept]
