"""Metrics of each user: accuracy by ir-measures, and further properties of the lists.

Recall@k divides by all targets of the user, MAP@k too (trec_eval's `map_cut`); MRR@k is 1 / rank of the first target
among the first k; nDCG@k has gain 1 and discount log2(rank + 1) (Jarvelin and Kekalainen 2002); HR@k is 1 if one target
is among the first k.
"""

from collections.abc import Iterable, Sequence

import ir_measures
import numpy as np
from ir_measures import AP, RR, R, Success, nDCG
from ir_measures.measures import Measure
from scipy import sparse

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Floats, Ints, Scores
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.search.exposure import measure_exposure

KS = (5, 10, 20, 50)
DEPTH = max(KS)
_FAMILIES = ("R", "nDCG", "MRR", "MAP", "HR")
ACCURACY = tuple(f"{family}@{k}" for k in KS for family in _FAMILIES)
BEYOND = tuple(f"{name}@{k}" for k in KS for name in ("Novelty", "Diversity", "PopularityBias"))

OF_ALL_LISTS = (*(f"Coverage@{k}" for k in KS), "TopShare@1", "Ubiquitous@10", "Tail@10")


def accuracy(ranking: Ints, relevant: sparse.csr_array, names: Sequence[str] = ACCURACY) -> Floats:
    """Return metrics of each user, float64 (u, m).

    Args:
        ranking: (u, k) rows of items, best first; negative where a list is shorter.
        relevant: (u, n), 1 for what was to be found.
        names: of the metrics, among `ACCURACY`.

    Raises:
        UsageError: a user has nothing to find, which no metric can judge.
    """
    if (np.diff(relevant.indptr) == 0).any():
        raise UsageError("a user without any relevant item cannot be judged: leave the user out of the targets")
    runs = {str(user): to_run(item for item in row if item >= 0) for user, row in enumerate(ranking.tolist())}
    targets = np.split(relevant.indices, relevant.indptr[1:-1]) if len(ranking) else []
    wanted = {str(user): {str(item): 1 for item in row.tolist()} for user, row in enumerate(targets)}
    places = {_measure(name): place for place, name in enumerate(names)}
    values = np.zeros((len(ranking), len(names)))
    if len(ranking):
        for found in ir_measures.iter_calc(list(places), wanted, runs):
            values[int(found.query_id), places[found.measure]] = found.value
    return values


def to_run(items: Iterable[object]) -> dict[str, float]:
    """Return scores by item that are made from the ranks: ir-measures orders equal scores by document id."""
    return {str(item): -float(rank) for rank, item in enumerate(items)}


def _measure(name: str) -> "Measure":
    family, k = name.split("@")
    return {"R": R, "nDCG": nDCG, "MRR": RR, "MAP": AP, "HR": Success}[family] @ int(k)


def beyond_accuracy(ranking: Ints, split: Split, users: Ints) -> Floats:
    """Return the metrics `BEYOND` of each user's list, float64 (u, m); NaN where a list is too short.

    Novelty@k: mean of -log2(p) over the list, p = (users of the item + 1) / (users + 1), in bits (Zhou et al. 2010).
    Diversity@k: mean of 1 - cosine over the pairs of the list, by the documents' vectors (Ziegler et al. 2005).
    PopularityBias@k: popularity lift, mean users of the list's items / mean users of the history's items - 1
    (Abdollahpouri et al. 2019); 0 is as popular as what the user takes, 1 twice as popular.

    Args:
        ranking: (u, k) rows of items, negative where a list is shorter.
        split: counts of users come from here, hence from before the cut.
        users: (u,) rows of the split's users.
    """
    popularity = split.popularity.astype(np.float64)
    bits = -np.log2((popularity + 1.0) / (split.shape[0] + 1.0))
    seen = split.seen[users]
    usual = (seen @ popularity) / np.maximum(np.diff(seen.indptr), 1)
    similar = _pair_sums(ranking, split.catalogue.vectors["document"])
    columns = []
    for k in KS:
        filled = np.where(ranking[:, :k] >= 0, ranking[:, :k], 0)
        count = (ranking[:, :k] >= 0).sum(axis=1).astype(np.float64)
        there = ranking[:, :k] >= 0
        columns.append(_divide((bits[filled] * there).sum(axis=1), count))
        columns.append(1.0 - _divide(similar[:, min(k, ranking.shape[1]) - 1], count * (count - 1.0)))
        columns.append(_divide(_divide((popularity[filled] * there).sum(axis=1), count), usual) - 1.0)
    return np.stack(columns, axis=1)


def of_all_lists(ranking: Ints, split: Split) -> dict[str, float]:
    """Return the metrics `OF_ALL_LISTS`, which say what all lists together show; see `measure_exposure`.

    Coverage@k: share of the candidates in the first k of at least one list. TopShare@1: share of the users whose first
    item is the most frequent first item. Ubiquitous@10: number of items in more than 30% of top tens. Tail@10: share of
    the items in top tens that are outside the most popular half of the items with interactions.
    """
    items, documents = split.catalogue.item_ids, int(split.candidates.sum())
    exposures = {k: measure_exposure(ranking[:, :k], items, split.popularity, documents) for k in KS}
    ten = exposures[10]
    shares = {"TopShare@1": ten.first_share, "Ubiquitous@10": float(len(ten.ubiquitous)), "Tail@10": ten.tail_share}
    return {f"Coverage@{k}": exposure.coverage for k, exposure in exposures.items()} | shares


def _pair_sums(ranking: Ints, vectors: Scores) -> Floats:
    """Return, for each prefix of each list, the sum of cosines over ordered pairs of different items, (u, k).

    |v_1 + ... + v_j|^2 is that sum plus the squared lengths.
    """
    sums = np.empty(ranking.shape)
    for low in range(0, len(ranking), 256):
        block = ranking[low : low + 256]
        rows = vectors[np.where(block >= 0, block, 0)] * (block >= 0)[:, :, None]
        lengths = np.cumsum(np.square(rows).sum(axis=2), axis=1)
        sums[low : low + 256] = np.square(np.cumsum(rows, axis=1)).sum(axis=2) - lengths
    return sums


def _divide(values: Floats, by: Floats) -> Floats:
    """Return the quotients, NaN where `by` is 0."""
    quotients: Floats = np.full(len(values), np.nan)
    np.divide(values, by, out=quotients, where=by > 0)
    return quotients


def judge(ranking: Ints, split: Split, targets: Targets) -> Floats:
    """Return `ACCURACY` and `BEYOND` of each user, float64 (u, m)."""
    return np.hstack([accuracy(ranking, targets.relevant), beyond_accuracy(ranking, split, targets.users)])
