"""The tuner's arithmetic against ir-measures and against the product's own answers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy import sparse

from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.top_k import top_k
from vlm4rec_search.evaluation.tuning.sweep import (
    UserCandidates,
    around,
    best_weights,
    build_pool,
    grid,
    judge,
    judge_diverse,
)
from vlm4rec_search.search.fusion import Candidates, fuse
from vlm4rec_search.search.query import KINDS, Fusion

ITEMS = 40


def asked(draw: np.random.Generator) -> UserCandidates:
    """Draw the candidates of two semantic legs, words, behaviour and popularity."""
    names = [("interest", "semantic"), ("interest", "semantic"), ("words", "lexical"), ("co-purchase", "behaviour"),
             ("popularity", "popularity")]  # fmt: skip
    legs = []
    for name, kind in names:
        documents = draw.permutation(ITEMS)[: draw.integers(1, 30)].astype(np.int64)
        scores = np.sort(draw.uniform(0.1, 1, len(documents)).round(6))[::-1]
        legs.append(Candidates(name, kind, documents, scores.copy()))  # type: ignore[arg-type]
    return UserCandidates(legs, [0.25, 0.75, 1.0, 1.0, 1.0])


def wanted(draw: np.random.Generator, users: int) -> sparse.csr_array:
    matrix = (draw.random((users, ITEMS)) < 0.2).astype(np.float32)
    matrix[:, 0] = 1.0  # everybody has something to find
    return sparse.csr_array(matrix)


@pytest.mark.parametrize("fusion", ["rrf", "minmax"])
@drawn(seed=st.integers(0, 10_000), parts=st.lists(st.integers(1, 9), min_size=4, max_size=4))
@settings(max_examples=25, deadline=None)
def test_the_sweep_judges_what_the_product_would_answer(fusion: Fusion, seed: int, parts: list[int]) -> None:
    draw = np.random.default_rng(seed)
    answers, relevant = [asked(draw) for _ in range(6)], wanted(draw, 6)
    weights = {kind: part / 10 for kind, part in zip(KINDS, parts, strict=True)}
    ndcg, recall = judge(build_pool(answers, relevant, fusion, 20), weights)

    scores = np.full((6, ITEMS), -np.inf, dtype=np.float32)
    for row, answer in enumerate(answers):
        legs = [Candidates(leg.name, leg.kind, leg.documents[:20], leg.scores[:20]) for leg in answer.retrievers]
        of_legs = [share * weights[leg.kind] for leg, share in zip(legs, answer.shares, strict=True)]
        fused = fuse(legs, of_legs, fusion)
        scores[row, fused.documents] = -np.arange(len(fused.documents))
    expected = accuracy(top_k(scores, 10), relevant, ("nDCG@10", "R@10"))
    # float32 sums may tie where float64 sums do not: one exchange of neighbours is the most that may come of it
    assert (np.abs(np.stack([ndcg, recall], axis=1) - expected) <= [0.11, 0.5]).all()
    assert np.stack([ndcg, recall], axis=1).mean(axis=0) == pytest.approx(expected.mean(axis=0), abs=0.02)


def test_a_kind_without_weight_brings_no_documents() -> None:
    legs = [Candidates("words", "lexical", np.array([3]), np.array([1.0])),
            Candidates("popularity", "popularity", np.array([5]), np.array([1.0]))]  # fmt: skip
    relevant = sparse.csr_array(np.eye(1, ITEMS, 5, dtype=np.float32))
    only = {kind: float(kind == "lexical") for kind in KINDS}
    ndcg, recall = judge(build_pool([UserCandidates(legs, [1.0, 1.0])], relevant, "rrf", 10), only)
    assert (ndcg.tolist(), recall.tolist()) == ([0.0], [0.0])


def test_the_best_weighting_is_found_where_one_leg_knows_all() -> None:
    draw = np.random.default_rng(1)
    relevant = wanted(draw, 30)
    answers = []
    for row in range(30):
        targets = relevant[[row]].indices.astype(np.int64)
        others = [leg for leg in asked(draw).retrievers if leg.kind != "behaviour"]
        knows = Candidates("co-purchase", "behaviour", targets, np.linspace(1, 0.5, len(targets)))
        answers.append(UserCandidates([*others, knows], [0.25, 0.75, 1.0, 1.0, 1.0]))
    weights, value, tried = best_weights(build_pool(answers, relevant, "minmax", 30))
    assert value == pytest.approx(1.0)
    assert weights["behaviour"] >= 0.5
    assert tried > 286


def test_diversity_is_judged_over_the_same_candidates() -> None:
    draw = np.random.default_rng(2)
    relevant = wanted(draw, 8)
    candidates = build_pool([asked(draw) for _ in range(8)], relevant, "minmax", 30)
    weights = dict.fromkeys(KINDS, 0.25)
    vectors = np.float32(np.linalg.qr(draw.standard_normal((ITEMS, ITEMS)))[0])  # nothing is like anything else
    plain = judge(candidates, weights)
    assert np.allclose(judge_diverse(candidates, weights, 0.0, vectors, relevant), plain)
    assert np.allclose(judge_diverse(candidates, weights, 0.5, vectors, relevant), plain)
    alike = np.float32(np.eye(ITEMS)[np.arange(ITEMS) // 20])  # two groups: the first ten then come from both
    assert not np.allclose(judge_diverse(candidates, weights, 0.5, alike, relevant), plain)


def test_weightings_sum_to_one() -> None:
    weightings = list(grid(0.1))
    assert len(weightings) == 286  # combinations of 10 tenths on 4 kinds
    moved = list(around(weightings[100], 0.05))
    assert {round(sum(weights.values()), 6) for weights in [*weightings, *moved]} == {1.0}
    assert len({tuple(weights.values()) for weights in moved}) == len(moved)


def test_a_written_configuration_is_read_again(tmp_path: Path) -> None:
    from vlm4rec_search.search.ranking import load_ranking, write_ranking

    shipped = load_ranking()
    write_ranking(shipped.model_copy(update={"version": "mine"}), tmp_path / "ranking.yaml")
    assert load_ranking(tmp_path / "ranking.yaml") == shipped.model_copy(update={"version": "mine"})
