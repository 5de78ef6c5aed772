"""User profiles: the vector and the weighted words of each history, from the weights that SQL has decided.

Both are sparse matrix products, users x items times items x dimensions or items x terms; nothing loops over users.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from vlm4rec_search.bm25 import count_terms
from vlm4rec_search.errors import RunError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
VERSION = 1  # raise it when vectors or words of the same weights change
TEXTS = ("title", "description", "caption")
_BLOCK = 4_000_000  # (user, term) pairs held at once: about 200 MB
_ZERO = 1e-9  # a sum this much shorter than its parts has cancelled out


class Terms(NamedTuple):
    """The words of the catalogue: names and words are sorted by term, occurs is items x terms with 1 where it does."""

    names: npt.NDArray[np.object_]
    words: npt.NDArray[np.object_]
    occurs: sparse.csr_array
    idf: Floats


def user_vectors(weights: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Return the unit-length weighted mean of the vectors of each user's items.

    Args:
        weights: user_id, item_id, weight; weights may be negative, a repeated pair adds up.
        items: item_id (unique), vector (float32 arrays of one length).

    Returns:
        user_id, items (int: embedded items of the history), length (float: of the weighted sum before it was scaled
        to 1), vector (float32 array of length 1), by user_id. Users without an embedded item, or whose weighted
        vectors cancel out, have no profile and are left out.

    Raises:
        RunError: vectors of different lengths, or a weight that is not finite.
    """
    users, matrix = _history_matrix(weights, items["item_id"])
    sums = matrix @ _stack(items["vector"]) if len(items) and len(users) else np.zeros((len(users), 0))
    lengths = np.linalg.norm(sums, axis=1)
    keep = np.flatnonzero(lengths > _ZERO * abs(matrix).sum(axis=1))
    units = (sums[keep] / lengths[keep, None]).astype(np.float32)
    counts = np.diff(matrix.indptr)[keep].astype(np.int64)
    columns = {"user_id": users[keep], "items": counts, "length": lengths[keep]}
    return pd.DataFrame({**columns, "vector": pd.Series(list(units), dtype=object)})


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
    users, matrix = _history_matrix(weights, documents["item_id"])
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


def _history_matrix(weights: pd.DataFrame, item_ids: pd.Series) -> tuple[npt.NDArray[np.object_], sparse.csr_array]:
    """Return the sorted user ids and the users x items weights; items that are not in `item_ids` are left out."""
    values = weights["weight"].to_numpy(np.float64)
    if not np.isfinite(values).all():
        user = weights["user_id"].to_numpy()[~np.isfinite(values)][0]
        raise RunError(f"a profile weight of user {user!r} is not a finite number: correct profiles.profile_weights")
    rows, users = pd.factorize(weights["user_id"], sort=True)
    columns = pd.Index(item_ids).get_indexer(pd.Index(weights["item_id"]))
    known = columns >= 0
    cells = (values[known], (rows[known], columns[known]))
    matrix = sparse.coo_array(cells, shape=(len(users), len(item_ids))).tocsr()
    return np.asarray(users, dtype=object), matrix


def _stack(vectors: pd.Series) -> Floats:
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        raise RunError(f"item vectors have different lengths {sorted(lengths)}: embed all items with one encoder")
    return np.stack(list(vectors)).astype(np.float64)


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
