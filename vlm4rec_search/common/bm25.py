"""Term counts of a whole catalogue, and the BM25 scores of one field as Lucene computes them."""

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from vlm4rec_search.common.analyzer import ENGLISH, Analyzer

K1 = 1.2
B = 0.75
BOOSTS = {"title": 2.0, "description": 1.0, "caption": 1.0, "details": 1.0}
"""The fields of the lexical index, each with the factor of its score.

A title says what an item is. Details (category, brand, season) are short, so that each of their words scores high, and
the brand often stands in the title as well. In the built-in shop a factor of 1.5 drowned what captions say of tastes
(nDCG@10 of the lexical retriever 0.062, with 1.0 0.069), and with 0.5 a search for "striped bag" found a striped mug
before plain bags.
"""


class TermCounts(NamedTuple):
    """The sorted terms of some texts, the most frequent word of each term, and counts of shape (documents, terms)."""

    terms: list[str]
    words: list[str]
    counts: sparse.csr_array


def count_terms(texts: Iterable[str | None], analyzer: Analyzer = ENGLISH) -> TermCounts:
    """Count the terms that an analyzer makes of texts, one text or None for each document.

    Of equally frequent words of a term the first in the alphabet is returned.
    """
    numbers: dict[str, int] = {}
    forms: Counter[tuple[int, str]] = Counter()
    columns = array("i")
    ends = [0]
    for text in texts:
        pairs = [(numbers.setdefault(term, len(numbers)), word) for term, word in analyzer.tokens(text or "")]
        forms.update(pairs)
        columns.extend(number for number, _ in pairs)
        ends.append(len(columns))
    terms = sorted(numbers)
    order = np.empty(len(numbers), dtype=np.int32)
    order[[numbers[term] for term in terms]] = np.arange(len(numbers), dtype=np.int32)
    indices = order[np.frombuffer(columns, dtype=np.int32)] if columns else np.empty(0, dtype=np.int32)
    cells = (np.ones(len(indices)), indices, np.array(ends, dtype=np.int64))
    counts = sparse.csr_array(cells, shape=(len(ends) - 1, len(numbers)))
    counts.sum_duplicates()
    # The dictionary takes the last pair of each term, which is that of its most frequent word.
    words = dict(sorted(forms, key=lambda form: (-forms[form], form[1]), reverse=True))
    return TermCounts(terms, [words[numbers[term]] for term in terms], counts)


def bm25(counts: sparse.csr_array) -> sparse.csc_array:
    """Return the BM25 score of each term in each document: float32, shape (documents, terms).

    The score is ln(1 + (N - df + 0.5) / (df + 0.5)) x tf / (tf + k1 (1 - b + b dl / avgdl)) with k1 = 1.2 and b = 0.75,
    as in Lucene's `BM25Similarity`: without the factor k1 + 1, with N and avgdl over the documents that have the field,
    and with the length dl as Lucene stores it.
    """
    lengths = counts.sum(axis=1)
    documents = max(int((lengths > 0).sum()), 1)
    mean = max(float(lengths.sum()) / documents, 1e-9)
    norms = K1 * (1.0 - B + B * stored_length(lengths.astype(np.int64)) / mean)
    scores = counts.tocsc()
    frequency = np.diff(scores.indptr)
    idf = np.log1p((documents - frequency + 0.5) / (frequency + 0.5))
    tf = scores.data
    values = np.repeat(idf, frequency) * tf / (tf + norms[scores.indices])
    return sparse.csc_array((values.astype(np.float32), scores.indices, scores.indptr), shape=scores.shape)


def stored_length(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Round lengths down as Lucene's `SmallFloat.intToByte4` does: exact up to 40, then the 4 leading bits."""
    above = np.maximum(lengths - 24, 0)
    shift = np.maximum(np.ceil(np.log2(above + 1)).astype(np.int64) - 4, 0)
    return np.where(lengths < 24, lengths, 24 + ((above >> shift) << shift))
