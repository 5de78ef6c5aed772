"""EASE: weights between items with which the history of a shopper predicts what the shopper takes next.

Embarrassingly shallow autoencoder (Steck, WWW 2019), with recency: histories forget slowly and what they are to predict
forgets fast, so that the weights say what shoppers with such a history have taken of late.
"""

import numpy as np
import pandas as pd
from scipy import linalg, sparse

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.vectors import Scores, largest_columns
from vlm4rec_search.profiles.taken import Taken

MOST_ITEMS = 10_000
"""A matrix of this many rows and columns has 0.4 GB, and the solution needs four of them. Online Retail, test part:
nDCG@10 is the same with half of the items, and changes by -0.0004 [-0.0051 +0.0039] with a quarter."""
_DENSE_SPEED = 20  # multiplications of dense matrices in the time of one of a sparse matrix
_COLUMNS = 64  # of a dense matrix that is multiplied by a sparse one: they stay in the processor's cache
_LEAST = 1e-8  # of the regularisation: less is lost in single precision anyway
_BLOCK = 1_000  # rows whose largest weights are looked for at once
NEIGHBOURS = 100  # kept of each item; Online Retail, test part: nDCG@10 0.1359 with 100, 0.1365 with all


def solve_ease(history: sparse.csr_array, taken: sparse.csr_array, regularisation: float) -> Scores:
    """Return the weights B, float32 (n, n), that minimise |taken - history B|^2 + regularisation x |B|^2.

    The diagonal is 0, so that no item predicts itself. With P = (history' history + regularisation I)^-1 and
    C = P history' taken the solution is B = C - P diag(C) / diag(P) (Steck 2019, equation 8, with another target).
    Where shoppers took few of the items, P history' comes first: two products with sparse matrices in place of one of
    dense ones.

    Args:
        history: float32 (u, n), what predicts.
        taken: float32 (u, n), what is predicted.
        regularisation: above 0.

    Raises:
        RunError: the regularisation is too small for single precision.
    """
    if history.shape[0] < history.shape[1]:
        return _solve_by_shoppers(history, taken, regularisation)
    gram = (history.T @ history).toarray().astype(np.float32)
    if _DENSE_SPEED * (history.nnz + taken.nnz) > gram.size:
        return solve_normal(gram, (history.T @ taken).toarray().astype(np.float32), regularisation)
    inverse = regularised_inverse(gram, regularisation)
    weights, of_items = np.empty_like(inverse), taken.T.tocsr()
    for low in range(0, len(weights), _COLUMNS):
        columns = inverse[:, low : low + _COLUMNS]  # rows as well: the inverse is symmetric
        weights[low : low + _COLUMNS] = (of_items @ (history @ columns)).T
    return _without_own(weights, inverse)


def _solve_by_shoppers(history: sparse.csr_array, taken: sparse.csr_array, regularisation: float) -> Scores:
    """Return the same with a matrix of shoppers to invert, which is the smaller one where items outnumber shoppers.

    With K = (history history' + regularisation I)^-1: P history' = history' K and
    regularisation x P = I - history' K history (Woodbury), so that the other products are with sparse matrices.
    """
    inverse = regularised_inverse((history @ history.T).toarray().astype(np.float32), regularisation)
    weights: Scores = np.asarray(history.T @ (inverse @ taken), dtype=np.float32)
    of_items: Scores = np.asarray(history.T @ (inverse @ history), dtype=np.float32)
    np.negative(of_items, out=of_items)
    np.fill_diagonal(of_items, of_items.diagonal() + np.float32(1.0))  # regularisation x P, as is its diagonal below
    return _without_own(weights, of_items)


def solve_normal(gram: Scores, shared: Scores, regularisation: float) -> Scores:
    """Return the weights for history' history and history' taken, float32 (n, n) each; the first is overwritten."""
    inverse = regularised_inverse(gram, regularisation)
    return _without_own(inverse @ shared, inverse)


def _without_own(weights: Scores, inverse: Scores) -> Scores:
    """Return C - P diag(C) / diag(P) for C and a multiple of P, float32 (n, n) each; the first is overwritten."""
    weights -= inverse * (weights.diagonal() / inverse.diagonal())
    np.fill_diagonal(weights, 0.0)
    return weights


def regularised_inverse(gram: Scores, regularisation: float) -> Scores:
    """Return (gram + regularisation I)^-1, float32 (n, n), by Cholesky; the symmetric matrix is overwritten.

    Products of long forgotten events are taken for 0: products of theirs are subnormal numbers, with which processors
    compute up to fifty times as slowly.

    Args:
        gram: sums of products of weights, each 0 or more.
        regularisation: above 0.

    Raises:
        RunError: the regularisation is too small for single precision.
    """
    gram[gram < _LEAST * regularisation] = 0.0
    np.fill_diagonal(gram, gram.diagonal() + np.float32(regularisation))
    factor, failed = linalg.lapack.spotrf(gram.T, lower=1, overwrite_a=1)  # gram.T is gram in LAPACK's order
    inverse, failed_too = linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise RunError("EASE has no solution in single precision: the regularisation is too small for this history")
    whole: Scores = np.tril(inverse)
    whole += np.tril(whole, -1).T
    return whole


def ease_weights(taken: Taken, half_lives: tuple[float, float], regularisation: float) -> pd.DataFrame:
    """Return the `NEIGHBOURS` largest weights of each item, negative ones too.

    A catalogue of more than `MOST_ITEMS` items gets weights between those that most shoppers took; the others are left
    to the other retrievers.

    Args:
        taken: who took what, and how long ago.
        half_lives: days, of the history that predicts and of what is predicted.
        regularisation: see `solve_ease`.

    Returns:
        item_id, neighbour_id, weight (rounded to 6 decimals, never 0), rank (1 for the largest absolute weight), by
        item_id and rank.
    """
    taken = taken.popular_items(MOST_ITEMS)
    if not len(taken.users):
        return pd.DataFrame({"item_id": [], "neighbour_id": [], "weight": [], "rank": []})
    weights = solve_ease(taken.matrix(half_lives[0]), taken.matrix(half_lives[1]), regularisation)
    np.round(weights, 6, out=weights)
    kept = min(NEIGHBOURS, len(weights))
    starts = range(0, len(weights), _BLOCK)
    blocks = [largest_columns(np.abs(weights[low : low + _BLOCK]), kept) for low in starts]
    columns = np.concatenate(blocks).ravel()
    rows, ranks = np.divmod(np.arange(len(columns)), kept)
    some = weights[rows, columns] != 0.0
    return pd.DataFrame(
        {
            "item_id": taken.item_ids[rows[some]],
            "neighbour_id": taken.item_ids[columns[some]],
            "weight": weights[rows, columns][some].astype(np.float64).round(6),
            "rank": ranks[some] + 1,
        }
    )
