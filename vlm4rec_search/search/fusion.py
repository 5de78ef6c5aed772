"""Fusion of the retrievers' candidates into one ranking; equal scores are ordered by document."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm4rec_search.common.vectors import Floats, Ints, Mask
from vlm4rec_search.search.query import Fusion, Kind

RANK_CONSTANT = 60
LOWEST = 0.001
FEW = 10  # matches of words, that fit on one page
NEAR = 1e-5  # of the best score: such scores share a rank
_DECIMALS = 12  # sums of the same parts in another order have to tie


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of one retriever: documents (int64) with scores (float64), best first.

    The formulas of shares take several rows of scores as well, each of another search.
    """

    name: str
    kind: Kind
    documents: Ints
    scores: Floats


@dataclass(frozen=True, slots=True)
class Fused:
    """Documents best first, their scores, and what each retriever added: contributions is (documents, retrievers)."""

    documents: Ints
    scores: Floats
    contributions: Floats


def fuse(
    candidates: Sequence[Candidates], weights: Sequence[float], fusion: Fusion, rank_weights: Sequence[float] = ()
) -> Fused:
    """Return one ranking of the documents that any retriever found.

    The scores of a single retriever stay as they are. A retriever of weight 0 takes no part.

    Args:
        candidates: of each retriever; documents with a smaller number come first among equal scores.
        weights: of each retriever, 0 or more; at least one is above 0.
        fusion: `reciprocal_rank` (rrf), `min_max_mean` (minmax), `z_score_mean` (zscore), or `blend`.
        rank_weights: of each retriever in a blend.
    """
    by_rank = rank_weights or [0.0] * len(weights)
    columns = [column for column, pair in enumerate(zip(weights, by_rank, strict=True)) if sum(pair) > 0]
    active = [candidates[column] for column in columns]
    if len(active) == 1:
        contributions = np.zeros((len(active[0].documents), len(candidates)))
        contributions[:, columns[0]] = active[0].scores
        return Fused(active[0].documents, active[0].scores, contributions)
    used = [weights[column] for column in columns]
    if fusion == "blend":
        added = blend(active, used, [by_rank[column] for column in columns])
    else:
        added = BY_WEIGHT[fusion](active, used)
    documents = _distinct(np.concatenate([each.documents for each in active]))
    contributions = np.zeros((len(documents), len(candidates)))
    for column, each, scores in zip(columns, active, added, strict=True):
        contributions[np.searchsorted(documents, each.documents), column] = scores
    totals = contributions.sum(axis=1).round(_DECIMALS)
    order = np.argsort(-totals, kind="stable")
    return Fused(documents[order], totals[order], contributions[order])


def _distinct(documents: Ints) -> Ints:
    """Return the distinct documents in order: np.unique takes ten times as long for so few."""
    documents.sort()
    is_first: Mask = np.diff(documents, prepend=-1) != 0
    return documents[is_first]


def reciprocal_rank(candidates: Sequence[Candidates], weights: Sequence[float]) -> list[Floats]:
    """Return w / (60 + rank) for the candidates of each retriever (Cormack, Clarke and Buettcher, SIGIR 2009).

    Near ties share a rank, see `shared_ranks`.
    """
    return [
        weight / (RANK_CONSTANT + shared_ranks(each.scores)) for each, weight in zip(candidates, weights, strict=True)
    ]


def shared_ranks(scores: Floats) -> Floats:
    """Return the ranks of scores in descending order, from 1.

    A rank is one plus the number of scores that are larger by more than `NEAR` of the largest: backends differ in the
    last digits, which would otherwise exchange the ranks of near ties.
    """
    if scores.ndim > 1:
        return np.stack([shared_ranks(row) for row in scores])
    if len(scores) == 0:
        return np.empty(0)
    descending = -scores
    better: Floats = np.searchsorted(descending, descending - NEAR * np.abs(scores).max()).astype(np.float64)
    return better + 1.0


def min_max_mean(candidates: Sequence[Candidates], weights: Sequence[float]) -> list[Floats]:
    """Return w / sum(w) x (s - min) / (max - min) for the candidates of each retriever.

    This is what OpenSearch's normalization-processor computes with min_max and arithmetic_mean: the lowest candidate of
    a retriever gets 0.001, even where the one above it gets less, a single candidate or equal ones get 1.0, and a
    document that a retriever does not find gets nothing from it. Where words have at most `FEW` candidates, min is 0
    for them, the BM25 score of all other documents: the third of three items with a rare word has the word, too.
    """
    total = float(sum(weights))
    return [weight / total * _min_max(each) for each, weight in zip(candidates, weights, strict=True)]


def z_score_mean(candidates: Sequence[Candidates], weights: Sequence[float]) -> list[Floats]:
    """Return w / sum(w) x (s - mean) / standard deviation for the candidates of each retriever.

    A score that stands out counts for more than in `min_max_mean`. What is not above the mean of the retriever's
    candidates gets 0.001, so that a document never loses by being found, and equal scores get 1.0.
    """
    total = float(sum(weights))
    return [weight / total * _z_score(each.scores) for each, weight in zip(candidates, weights, strict=True)]


def blend(candidates: Sequence[Candidates], weights: Sequence[float], rank_weights: Sequence[float]) -> list[Floats]:
    """Return w x (s - min) / (max - min) + v x 61 / (60 + rank) for the candidates of each retriever.

    The first term is that of `min_max_mean`, but at least 0.001 for every candidate, the second that of
    `reciprocal_rank`, scaled so that the first rank gives 1. Neither falls where the score grows, so that a blend with
    weights of 0 or more never prefers the worse of two candidates.
    """
    by_score, by_rank = score_share(candidates, weights), rank_share(candidates, rank_weights)
    return [one + other for one, other in zip(by_score, by_rank, strict=True)]


def score_share(candidates: Sequence[Candidates], weights: Sequence[float]) -> list[Floats]:
    """Return w x (s - min) / (max - min), at least w x 0.001, for the candidates of each retriever."""
    return [weight * np.maximum(_min_max(each), LOWEST) for each, weight in zip(candidates, weights, strict=True)]


def rank_share(candidates: Sequence[Candidates], weights: Sequence[float]) -> list[Floats]:
    """Return w x 61 / (60 + rank) for the candidates of each retriever."""
    return [(RANK_CONSTANT + 1.0) * added for added in reciprocal_rank(candidates, weights)]


def _min_max(candidates: Candidates) -> Floats:
    scores = candidates.scores
    if scores.size == 0:
        return scores
    high, low = scores.max(axis=-1, keepdims=True), scores.min(axis=-1, keepdims=True)
    equal = high == low
    lowest = 0.0 if candidates.kind == "lexical" and scores.shape[-1] <= FEW else low
    scaled = (scores - lowest) / np.where(equal, 1.0, high - lowest)
    scaled[scaled == 0.0] = LOWEST
    return np.where(equal, 1.0, scaled)


def _z_score(scores: Floats) -> Floats:
    if scores.size == 0:
        return scores
    equal = scores.max(axis=-1, keepdims=True) == scores.min(axis=-1, keepdims=True)
    mean, deviation = scores.mean(axis=-1, keepdims=True), scores.std(axis=-1, keepdims=True)
    standard = np.maximum((scores - mean) / np.where(equal, 1.0, deviation), LOWEST)
    return np.where(equal, 1.0, standard)


BY_WEIGHT = {"rrf": reciprocal_rank, "minmax": min_max_mean, "zscore": z_score_mean}
