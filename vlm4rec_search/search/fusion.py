"""Fusion of the legs' candidates into one ranking; ties are ordered by document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlm4rec_search.search.query import Fusion, Kind

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RANK_CONSTANT = 60
LOWEST = 0.001
_DECIMALS = 12  # sums of the same parts in another order have to tie


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one leg found: documents (int64) with scores (float64), best first."""

    name: str
    kind: Kind
    documents: Integers
    scores: Floats


@dataclass(frozen=True, slots=True)
class Fused:
    """Documents best first, their scores, and what each leg added: contributions is (documents, legs)."""

    documents: Integers
    scores: Floats
    contributions: Floats


def fuse(legs: Sequence[Candidates], weights: Sequence[float], fusion: Fusion) -> Fused:
    """Return one ranking of the documents that any leg found.

    One leg alone is not fused: its scores stay what they are. A leg of weight 0 is not heard.

    Args:
        legs: documents with a smaller number come first among equal scores.
        weights: one for each leg, 0 or more; at least one is above 0.
        fusion: `reciprocal_rank` (rrf) or `min_max_mean` (minmax).
    """
    heard = [place for place, weight in enumerate(weights) if weight > 0]
    active = [legs[place] for place in heard]
    if len(active) == 1:
        contributions = np.zeros((len(active[0].documents), len(legs)))
        contributions[:, heard[0]] = active[0].scores
        return Fused(active[0].documents, active[0].scores, contributions)
    rule: Callable[[Sequence[Candidates], Sequence[float]], list[Floats]]
    rule = reciprocal_rank if fusion == "rrf" else min_max_mean
    documents = _distinct(np.concatenate([leg.documents for leg in active]))
    contributions = np.zeros((len(documents), len(legs)))
    parts_of = rule(active, [weights[place] for place in heard])
    for place, leg, parts in zip(heard, active, parts_of, strict=True):
        contributions[np.searchsorted(documents, leg.documents), place] = parts
    scores = contributions.sum(axis=1).round(_DECIMALS)
    order = np.argsort(-scores, kind="stable")
    return Fused(documents[order], scores[order], contributions[order])


def _distinct(documents: Integers) -> Integers:
    """Return what np.unique does, in a tenth of its time for so few."""
    documents.sort()
    first: npt.NDArray[np.bool_] = np.diff(documents, prepend=-1) != 0
    return documents[first]


def reciprocal_rank(legs: Sequence[Candidates], weights: Sequence[float]) -> list[Floats]:
    """Return w / (60 + rank) for the candidates of each leg (Cormack, Clarke and Buettcher, SIGIR 2009)."""
    return [
        weight / (RANK_CONSTANT + np.arange(1.0, len(leg.documents) + 1.0))
        for leg, weight in zip(legs, weights, strict=True)
    ]


def min_max_mean(legs: Sequence[Candidates], weights: Sequence[float]) -> list[Floats]:
    """Return w / sum(w) x (s - min) / (max - min) for the candidates of each leg.

    As OpenSearch's normalization-processor with min_max and arithmetic_mean: a leg's lowest candidate has 0.001, a
    single one or equal ones 1.0, and a leg that does not find a document counts 0.
    """
    total = float(sum(weights))
    return [weight / total * _min_max(leg.scores) for leg, weight in zip(legs, weights, strict=True)]


def _min_max(scores: Floats) -> Floats:
    if len(scores) == 0 or scores.max() == scores.min():
        return np.ones(len(scores))
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    return np.where(scaled == 0.0, LOWEST, scaled)
