"""The words of a whole catalogue at once: counts of terms, and BM25 of one field in Lucene's form."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from vlm4rec_search.common.analyzer import tokens

K1 = 1.2
B = 0.75
BOOSTS = {"title": 2.0, "description": 1.0, "caption": 1.0}


class TermCounts(NamedTuple):
    """Terms of texts, sorted, the most frequent surface form of each, and how often it occurs: documents x terms."""

    terms: list[str]
    words: list[str]
    counts: sparse.csr_array


def count_terms(texts: Iterable[str | None]) -> TermCounts:
    """Analyze texts, one (or None) for each document; equally frequent forms go by the alphabet."""
    places: dict[str, int] = {}
    forms: Counter[tuple[int, str]] = Counter()
    columns: list[int] = []
    ends = [0]
    for text in texts:
        found = [(places.setdefault(term, len(places)), word) for term, word in tokens(text or "")]
        forms.update(found)
        columns.extend(place for place, _ in found)
        ends.append(len(columns))
    terms = sorted(places)
    order = np.empty(len(places), dtype=np.int32)
    order[[places[term] for term in terms]] = np.arange(len(places), dtype=np.int32)
    indices = order[np.array(columns, dtype=np.int64)]
    cells = (np.ones(len(indices)), indices, np.array(ends, dtype=np.int64))
    counts = sparse.csr_array(cells, shape=(len(ends) - 1, len(places)))
    counts.sum_duplicates()
    # A later pair replaces an earlier one of the same place: the most frequent form stays.
    words = dict(sorted(forms, key=lambda form: (-forms[form], form[1]), reverse=True))
    return TermCounts(terms, [words[places[term]] for term in terms], counts)


def bm25(counts: sparse.csr_array) -> sparse.csc_array:
    """Return the BM25 of every (document, term), float32, documents x terms.

    ln(1 + (N - df + 0.5) / (df + 0.5)) x tf / (tf + k1 (1 - b + b dl / avgdl)) with k1 1.2 and b 0.75, as Lucene's
    `BM25Similarity`: no factor k1 + 1, N and avgdl over the documents that have the field, and dl as Lucene stores it.
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
    """Round lengths down as Lucene's one-byte norm does (`SmallFloat.intToByte4`): exact to 40, then 4 leading bits."""
    above = np.maximum(lengths - 24, 0)
    shift = np.maximum(np.ceil(np.log2(above + 1)).astype(np.int64) - 4, 0)
    return np.where(lengths < 24, lengths, 24 + ((above >> shift) << shift))
