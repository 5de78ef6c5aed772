"""The tuner's arithmetic against ir-measures and against the product's own answers."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from click import Context
from helpers.interaction_logs import START, planted
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy import sparse

from vlm4rec_search.cli.evaluate import tune
from vlm4rec_search.evaluation.data import Targets
from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.splits import Part
from vlm4rec_search.evaluation.top_k import top_k
from vlm4rec_search.evaluation.tuning.sweep import (
    UserCandidates,
    arrange,
    build_pool,
    climb,
    join,
    judge,
    judge_diverse,
    top_ten,
)
from vlm4rec_search.evaluation.tuning.tune import USERS
from vlm4rec_search.evaluation.tuning.windows import Window, Windows
from vlm4rec_search.search.fusion import Candidates, fuse
from vlm4rec_search.search.query import KINDS, Fusion

ITEMS = 40
SHARES = [0.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]


def asked(draw: np.random.Generator) -> UserCandidates:
    """Draw the candidates of two interests and of one retriever of each other kind."""
    names = [("interest", "semantic"), ("interest", "semantic"), ("words", "lexical"), ("co-purchase", "behaviour"),
             ("ease", "ease"), ("shoppers", "shoppers"), ("popularity", "popularity")]  # fmt: skip
    legs = []
    for name, kind in names:
        documents = draw.permutation(ITEMS)[: draw.integers(1, 30)].astype(np.int64)
        scores = np.sort(draw.uniform(0.1, 1, len(documents)).round(6))[::-1]
        legs.append(Candidates(name, kind, documents, scores.copy()))  # type: ignore[arg-type]
    return UserCandidates(legs, SHARES)


def wanted(draw: np.random.Generator, users: int) -> sparse.csr_array:
    matrix = (draw.random((users, ITEMS)) < 0.2).astype(np.float32)
    matrix[:, 0] = 1.0  # everybody has something to find
    return sparse.csr_array(matrix)


@pytest.mark.parametrize("fusion", get_args(Fusion))
@drawn(seed=st.integers(0, 10_000), parts=st.lists(st.integers(1, 9), min_size=2 * len(KINDS), max_size=2 * len(KINDS)))
@settings(max_examples=25, deadline=None)
def test_the_sweep_judges_what_the_product_would_answer(fusion: Fusion, seed: int, parts: list[int]) -> None:
    draw = np.random.default_rng(seed)
    answers, relevant = [asked(draw) for _ in range(6)], wanted(draw, 6)
    by_score, by_rank = np.array(parts[: len(KINDS)]) / 10, np.array(parts[len(KINDS) :]) / 10
    vector = np.concatenate([by_score, by_rank]) if fusion == "blend" else by_score
    pool = build_pool(arrange(answers, relevant, 20), fusion)
    ndcg, recall = judge(pool, vector)

    scores = np.full((6, ITEMS), -np.inf, dtype=np.float32)
    for row, answer in enumerate(answers):
        legs = [Candidates(leg.name, leg.kind, leg.documents[:20], leg.scores[:20]) for leg in answer.retrievers]
        columns = [(share, KINDS.index(leg.kind)) for leg, share in zip(legs, answer.shares, strict=True)]
        weights = [share * by_score[column] for share, column in columns]
        ranks = [share * by_rank[column] for share, column in columns] if fusion == "blend" else []
        fused = fuse(legs, weights, fusion, ranks)
        scores[row, fused.documents] = -np.arange(len(fused.documents))
    expected = accuracy(top_k(scores, 10), relevant, ("nDCG@10", "R@10"))
    # float32 sums may tie where float64 sums do not: one exchange of neighbours is the most that may come of it
    assert (np.abs(np.stack([ndcg, recall], axis=1) - expected) <= [0.11, 0.5]).all()
    assert np.stack([ndcg, recall], axis=1).mean(axis=0) == pytest.approx(expected.mean(axis=0), abs=0.02)
    shown = accuracy(top_ten(pool, vector), relevant, ("nDCG@10", "R@10"))
    assert shown.mean(axis=0) == pytest.approx(expected.mean(axis=0), abs=0.02)


def test_a_kind_without_weight_brings_no_documents() -> None:
    legs = [Candidates("words", "lexical", np.array([3]), np.array([1.0])),
            Candidates("popularity", "popularity", np.array([5]), np.array([1.0]))]  # fmt: skip
    relevant = sparse.csr_array(np.eye(1, ITEMS, 5, dtype=np.float32))
    only = np.array([float(kind == "lexical") for kind in KINDS])
    pool = build_pool(arrange([UserCandidates(legs, [1.0, 1.0])], relevant, 10), "rrf")
    ndcg, recall = judge(pool, only)
    assert (ndcg.tolist(), recall.tolist()) == ([0.0], [0.0])
    assert top_ten(pool, only).tolist() == [[3, *[-1] * 9]]


def test_who_has_nothing_of_what_is_weighed_is_judged_as_a_search_answers() -> None:
    popular = Candidates("popularity", "popularity", np.array([0, 1]), np.array([2.0, 1.0]))
    likeness = Candidates("profile", "semantic", np.array([2, 0]), np.array([0.9, 0.1]))
    relevant = sparse.csr_array(np.ones((2, ITEMS), dtype=np.float32))
    legs = [UserCandidates([likeness, popular], [1.0, 1.0]), UserCandidates([popular], [1.0])]
    pool = build_pool(arrange(legs, relevant, 10), "minmax")
    ease_and = {"ease": 1.0, "popularity": 0.1}
    weights = np.array([ease_and.get(kind, 0.0) for kind in KINDS])
    assert top_ten(pool, weights)[:, :2].tolist() == [[2, 0], [0, 1]]
    mostly_popular = np.array([{"ease": 1.0, "popularity": 1.1}.get(kind, 0.0) for kind in KINDS])
    assert top_ten(pool, mostly_popular)[:, :2].tolist() == [[0, 1], [0, 1]]
    alone = np.array([float(kind == "ease") for kind in KINDS])
    assert top_ten(pool, alone)[:, 0].tolist() == [-1, -1]


def test_the_best_weighting_is_found_where_one_retriever_knows_all() -> None:
    draw = np.random.default_rng(1)
    relevant = wanted(draw, 30)
    answers = []
    for row in range(30):
        targets = relevant[[row]].indices.astype(np.int64)
        others = [leg for leg in asked(draw).retrievers if leg.kind != "behaviour"]
        knows = Candidates("co-purchase", "behaviour", targets, np.linspace(1, 0.5, len(targets)))
        answers.append(UserCandidates([*others, knows], SHARES))
    pool = build_pool(arrange(answers, relevant, 30), "minmax")
    start = np.full(len(KINDS), 1 / len(KINDS))
    weights, tried = climb(start, lambda weights: float(judge(pool, weights)[0].mean()), (0.2, 0.1))
    assert judge(pool, weights)[0].mean() == pytest.approx(1.0)
    assert weights[KINDS.index("behaviour")] >= 0.5
    assert weights.sum() == pytest.approx(1.0)
    assert tried > len(KINDS)


def test_diversity_is_judged_over_the_same_candidates() -> None:
    draw = np.random.default_rng(2)
    relevant = wanted(draw, 8)
    candidates = build_pool(arrange([asked(draw) for _ in range(8)], relevant, 30), "minmax")
    weights = np.full(len(KINDS), 0.25)
    vectors = np.float32(np.linalg.qr(draw.standard_normal((ITEMS, ITEMS)))[0])  # nothing is like anything else
    plain = judge(candidates, weights)
    assert np.allclose(judge_diverse(candidates, weights, 0.0, vectors, relevant), plain)
    assert np.allclose(judge_diverse(candidates, weights, 0.5, vectors, relevant), plain)
    alike = np.float32(np.eye(ITEMS)[np.arange(ITEMS) // 20])  # two groups: the first ten then come from both
    assert not np.allclose(judge_diverse(candidates, weights, 0.5, alike, relevant), plain)


def test_pools_are_joined_and_divided() -> None:
    draw = np.random.default_rng(3)
    relevant = [wanted(draw, 5), wanted(draw, 4)]
    pools = [build_pool(arrange([asked(draw) for _ in range(each.shape[0])], each, depth), "minmax")
             for each, depth in zip(relevant, (30, 10), strict=True)]  # fmt: skip
    weights = np.arange(1.0, len(KINDS) + 1.0)
    whole = join(pools)
    apart = np.concatenate([judge(pool, weights)[0] for pool in pools])
    assert np.allclose(judge(whole, weights)[0], apart)
    some = np.array([1, 4, 7])
    assert np.allclose(judge(whole.some(some), weights)[0], apart[some])


def test_a_written_configuration_is_read_again(tmp_path: Path) -> None:
    from vlm4rec_search.search.ranking import load_ranking, write_ranking

    shipped = load_ranking()
    write_ranking(shipped.model_copy(update={"version": "mine"}), tmp_path / "ranking.yaml")
    assert load_ranking(tmp_path / "ranking.yaml") == shipped.model_copy(update={"version": "mine"})


def test_each_window_is_judged_by_the_others() -> None:
    windows = Windows([window(5), window(4), window(6)], window(9))
    folds = windows.folds()
    assert [held for _, held in folds] == windows.past
    assert all(held not in others.past and len(others.past) == 2 for others, held in folds)
    assert all(others.last is windows.last for others, _ in folds)


def test_the_shoppers_of_a_single_window_are_divided() -> None:
    folds = Windows([window(8)], window(9)).folds()
    assert np.sort(np.concatenate([held.part.targets.users for _, held in folds])).tolist() == list(range(8))
    for others, held in folds:
        users = [each.part.targets.users for each in (*others.past, held)]
        assert np.sort(np.concatenate(users)).tolist() == list(range(8))


def window(users: int) -> Window:
    """Return a window of shoppers whose candidates are drawn."""
    draw = np.random.default_rng(users)
    targets = Targets(np.arange(users), wanted(draw, users))
    return Window(Part(planted().split(START), targets), {"mean": [asked(draw) for _ in range(users)]})


def test_the_help_names_the_number_of_shoppers_that_are_asked() -> None:
    (users,) = (option for option in tune.params if option.name == "sample")
    assert f"default: {USERS:,}." in users.get_help_record(Context(tune))[1]  # type: ignore[index]
