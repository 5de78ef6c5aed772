"""The candidates of every leg for every user of a split, asked from the index once, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

from vlm4rec_search.common.progress import bar
from vlm4rec_search.evaluation.data import Ints
from vlm4rec_search.evaluation.splits import Part
from vlm4rec_search.indexes.embedded.backend import EmbeddedIndex
from vlm4rec_search.search.fusion import Candidates, min_max_mean, reciprocal_rank
from vlm4rec_search.search.planning import leg_weights, plan
from vlm4rec_search.search.query import KINDS, Fusion, Query
from vlm4rec_search.search.ranking import Ranking

Tensor = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """What the legs of one user found, with each leg's share of its kind."""

    legs: Sequence[Candidates]
    shares: Sequence[float]


@dataclass(frozen=True)
class Pool:
    """All documents that any leg found for each of u users, w at most, and what each kind of leg adds to them.

    Attributes:
        added: float32 (u, w, kinds), in the order of `KINDS`; columns beyond a user's documents hold 0.
        there: bool (u, w), whether the column is a document; documents stand in the order of ties.
        found: (p, 2) row and column of each document that was to be found.
        wanted: (u,), how many documents each user has to find, in the pool or not.
        documents: int64 (u, w).
    """

    added: Tensor
    there: npt.NDArray[np.bool_]
    found: Ints
    wanted: Ints
    documents: Ints


def ask(index: EmbeddedIndex, part: Part, ranking: Ranking) -> list[Asked]:
    """Ask the index for the candidates of every leg of every user of a part, in the order of its targets.

    The kind of profile and the depth are those of the configuration; weights are not looked at.
    Documents become rows of the part's catalogue, which stand in the same order.
    """
    rows = part.split.catalogue.positions(list(index.store.places))
    everything: dict[str, float] = dict.fromkeys(KINDS, 1.0)
    index.ranking = ranking
    answers = []
    with bar("candidates of every leg", len(part.targets.users)) as advance:
        for user in part.split.user_ids[part.targets.users]:
            query = Query(user=str(user), weights=everything, include_seen=part.split.repeat)
            chosen = plan(index, query)
            legs = index.find(chosen.request).candidates
            legs = [replace(leg, documents=rows[leg.documents]) for leg in legs]
            answers.append(Asked(legs, leg_weights(chosen.legs, everything)))
            advance(1)
    return answers


def pool(answers: Sequence[Asked], relevant: sparse.csr_array, fusion: Fusion, depth: int) -> Pool:
    """Return what each kind of leg adds to each candidate under a rule of fusion at a depth.

    Args:
        answers: of each user, asked at this depth or deeper.
        relevant: (u, n), 1 for what was to be found, by document.
        fusion: `rrf` or `minmax`.
        depth: candidates of each leg that count.
    """
    unions = [_union(asked, depth) for asked in answers]
    width = max((len(union) for union in unions), default=0)
    added = np.zeros((len(answers), width, len(KINDS)), dtype=np.float32)
    documents = np.full((len(answers), width), -1, dtype=np.int64)
    rule = reciprocal_rank if fusion == "rrf" else min_max_mean
    for row, (asked, union) in enumerate(zip(answers, unions, strict=True)):
        documents[row, : len(union)] = union
        for leg, share in zip(asked.legs, asked.shares, strict=True):
            cut = _cut(leg, depth)
            places = np.searchsorted(union, cut.documents)
            added[row, places, KINDS.index(leg.kind)] += share * rule([cut], [1.0])[0]
    there = documents >= 0
    rows, columns = np.nonzero(there)
    hits = np.asarray(relevant[rows, documents[rows, columns]]).ravel() > 0
    found = np.stack([rows[hits], columns[hits]], axis=1)
    return Pool(added, there, found, np.diff(relevant.indptr).astype(np.int64), documents)


def _union(asked: Asked, depth: int) -> Ints:
    parts = [leg.documents[:depth] for leg in asked.legs]
    return np.unique(np.concatenate(parts)) if parts else np.array([], dtype=np.int64)


def _cut(leg: Candidates, depth: int) -> Candidates:
    return replace(leg, documents=leg.documents[:depth], scores=leg.scores[:depth])
