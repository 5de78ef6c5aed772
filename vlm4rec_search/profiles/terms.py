"""The weighted terms of each history, as a sparse matrix product: users x items times items x terms."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.analyzer import ENGLISH, Analyzer
from vlm4rec_search.common.bm25 import count_terms
from vlm4rec_search.common.vectors import Floats, Ints, Texts
from vlm4rec_search.profiles.histories import build_histories, of_cells, row_blocks

_BLOCK = 4_000_000  # (user, term) pairs in memory at once, about 200 MB


class _Vocabulary(NamedTuple):
    """The t terms of a catalogue of n items.

    Attributes:
        terms: (t,) analyzed terms, sorted.
        words: (t,) the most frequent surface form of each term.
        occurrences: float64 (n, t), 1 where the text of an item has the term.
        idf: float64 (t,); 0 for numbers and codes, which are no taste.
    """

    terms: Texts
    words: Texts
    occurrences: sparse.csr_array
    idf: Floats


def term_weights(
    weights: pd.DataFrame, texts: pd.DataFrame, per_user: int = 32, analyzer: Analyzer = ENGLISH
) -> pd.DataFrame:
    """Return the terms that distinguish the history of each user from the rest of the catalogue.

    weight(user, term) = sum of the weights of the history's items whose text has the term, divided by the largest of
    the user's terms. The terms are those with the largest weight x idf, where the idf is that of Lucene's BM25,
    ln(1 + (N - df + 0.5) / (df + 0.5)). The weight itself is without the idf: the search multiplies by it, and twice
    would let the rarest word decide. Numbers and codes are no words of a taste.

    Args:
        weights: user_id, item_id, weight.
        texts: item_id (unique), text: what is embedded, which the shop's own history has chosen (`embeddings.recipes`).
        per_user: most terms of a user; terms of weight 0 or less are left out.
        analyzer: of the catalogue's language.

    Returns:
        Rows by user_id and rank: user_id, term (analyzed), word (the most frequent surface form of the term), weight
        (1 for the largest of a user), rank (from 1, by weight x idf; equal ones are ordered by term).

    Raises:
        RunError: a weight is not finite.
    """
    users, matrix = build_histories(weights, texts["item_id"])
    vocabulary = _build_vocabulary(texts["text"], analyzer)
    terms_of_cells = np.diff(vocabulary.occurrences.indptr)[matrix.indices]
    pairs = np.bincount(of_cells(matrix, np.arange(len(users))), terms_of_cells, len(users))
    ranges = row_blocks(pairs, _BLOCK) or [(0, 0)]
    blocks = [_top_terms(matrix[low:high], vocabulary, per_user, low) for low, high in ranges]
    rows, columns, values, ranks = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    return pd.DataFrame(
        {
            "user_id": users[rows.astype(np.int64)],
            "term": vocabulary.terms[columns.astype(np.int64)],
            "word": vocabulary.words[columns.astype(np.int64)],
            "weight": values,
            "rank": ranks.astype(np.int64),
        }
    )


def _build_vocabulary(texts: "pd.Series[str]", analyzer: Analyzer) -> _Vocabulary:
    terms, words, counts = count_terms(texts, analyzer)
    frequency = np.bincount(counts.indices, minlength=len(terms))
    idf = np.log1p((len(texts) - frequency + 0.5) / (frequency + 0.5))
    idf[[is_code(term) for term in terms]] = 0.0
    occurrences = sparse.csr_array((np.ones(counts.nnz), counts.indices, counts.indptr), shape=counts.shape)
    return _Vocabulary(np.array(terms, dtype=object), np.array(words, dtype=object), occurrences, idf)


def is_code(term: str) -> bool:
    """Return whether a term is a number or a code: it has digits, and fewer letters than twice as many."""
    digits = sum(character.isnumeric() for character in term)
    return digits > 0 and sum(character.isalpha() for character in term) < 2 * digits


def _top_terms(
    block: sparse.csr_array, vocabulary: _Vocabulary, per_user: int, first_row: int
) -> tuple[Ints, Ints, Floats, Ints]:
    """Return rows, term columns, weights and ranks of each user's terms with the largest weight x idf."""
    scores = sparse.csr_array(block @ vocabulary.occurrences)
    scores.sort_indices()  # so that equal weights are ordered by term
    rows = of_cells(scores, np.arange(scores.shape[0]))
    told = scores.data * vocabulary.idf[scores.indices]
    positive = told > 0
    rows, columns, told, values = rows[positive], scores.indices[positive], told[positive], scores.data[positive]
    order = np.lexsort((-told, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    starts = np.searchsorted(rows, np.arange(scores.shape[0]))
    ranks = np.arange(len(rows)) - starts[rows] + 1
    top = ranks <= per_user
    rows, columns, values, ranks = rows[top], columns[top], values[top], ranks[top]
    largest = np.zeros(scores.shape[0])
    np.maximum.at(largest, rows, values)
    return rows + first_row, columns, values / largest[rows], ranks
