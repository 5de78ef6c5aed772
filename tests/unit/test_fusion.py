"""Fusion against arithmetic done by hand."""

import numpy as np
import pytest

from vlm4rec_search.indexes.embedded.backend import top_candidates
from vlm4rec_search.search.fusion import FEW, Candidates, Fused, fuse, shared_ranks
from vlm4rec_search.search.model import Retriever
from vlm4rec_search.search.planning import retriever_weights


def leg(name: str, kind: str, found: dict[int, float]) -> Candidates:
    return Candidates(name, kind, np.array(list(found), np.int64), np.array(list(found.values()), np.float64))  # type: ignore[arg-type]


def result(fused: Fused) -> dict[int, float]:
    return dict(zip(fused.documents.tolist(), fused.scores.tolist(), strict=True))


def test_reciprocal_rank_adds_one_over_60_plus_rank() -> None:
    legs = [leg("profile", "semantic", {7: 0.9, 3: 0.8}), leg("words", "lexical", {3: 5.0, 1: 2.0})]
    fused = fuse(legs, [1.0, 1.0], "rrf")
    assert result(fused) == pytest.approx({3: 1 / 62 + 1 / 61, 7: 1 / 61, 1: 1 / 62})
    assert list(result(fused)) == [3, 7, 1]
    assert fused.contributions[0].tolist() == pytest.approx([1 / 62, 1 / 61])


def test_reciprocal_rank_weighs_its_legs() -> None:
    legs = [leg("profile", "semantic", {7: 0.9}), leg("words", "lexical", {3: 5.0})]
    assert result(fuse(legs, [0.25, 0.75], "rrf")) == pytest.approx({3: 0.75 / 61, 7: 0.25 / 61})


def test_min_max_is_opensearchs_arithmetic() -> None:
    legs = [leg("profile", "semantic", {0: 0.9, 1: 0.7, 2: 0.4}), leg("words", "lexical", {2: 5.0})]
    # profile: 1, (0.7 - 0.4) / 0.5 = 0.6, lowest 0.001; words: a single hit is 1; a missing one counts 0
    expected = {0: 0.5 * 1.0, 1: 0.5 * 0.6, 2: 0.5 * 0.001 + 0.5 * 1.0}
    assert result(fuse(legs, [0.5, 0.5], "minmax")) == pytest.approx(expected)


def test_of_few_items_with_a_word_the_last_counts_by_its_own_score() -> None:
    near = leg("text", "semantic", {3: 0.9, 4: 0.5, 5: 0.1})
    few = {document: 4.0 - 0.25 * document for document in range(FEW)}
    fused = result(fuse([near, leg("words", "lexical", few)], [0.5, 0.5], "minmax"))
    assert fused[FEW - 1] == pytest.approx(0.5 * few[FEW - 1] / few[0])
    many = few | {FEW: few[FEW - 1] - 0.25}
    fused = result(fuse([near, leg("words", "lexical", many)], [0.5, 0.5], "minmax"))
    assert fused[FEW] == pytest.approx(0.5 * 0.001)
    assert fused[FEW - 1] == pytest.approx(0.5 * 0.25 / (few[0] - many[FEW]))


def test_min_max_of_equal_scores_is_one_and_weights_need_not_sum_to_one() -> None:
    legs = [leg("profile", "semantic", {4: 0.3, 5: 0.3}), leg("words", "lexical", {})]
    assert result(fuse(legs, [3.0, 1.0], "minmax")) == pytest.approx({4: 0.75, 5: 0.75})


def test_z_score_counts_standard_deviations_above_the_mean() -> None:
    legs = [leg("profile", "semantic", {0: 6.0, 1: 3.0, 2: 0.0}), leg("words", "lexical", {2: 5.0, 3: 5.0})]
    # profile: mean 3, standard deviation 6^0.5; what is not above the mean gets 0.001, equal scores get 1
    expected = {0: 0.25 * 3 / 6**0.5, 1: 0.25 * 0.001, 2: 0.25 * 0.001 + 0.75 * 1.0, 3: 0.75}
    assert result(fuse(legs, [1.0, 3.0], "zscore")) == pytest.approx(expected)


def test_ties_go_to_the_first_document() -> None:
    legs = [leg("profile", "semantic", {9: 0.9, 2: 0.8}), leg("words", "lexical", {2: 5.0, 9: 2.0})]
    assert fuse(legs, [1.0, 1.0], "rrf").documents.tolist() == [2, 9]


def test_one_leg_keeps_its_scores() -> None:
    assert result(fuse([leg("profile", "semantic", {5: 0.9, 1: -0.2})], [1.0], "minmax")) == {5: 0.9, 1: -0.2}


def test_top_candidates_breaks_ties_by_document_at_the_cut() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.5, 0.1], dtype=np.float32)
    found = top_candidates(Retriever("profile", "semantic"), scores, None, depth=2)
    assert found.documents.tolist() == [1, 0]
    allowed = np.array([False, False, True, True, True])
    found = top_candidates(Retriever("profile", "semantic"), scores, allowed, depth=2)
    assert found.documents.tolist() == [2, 3]


def test_lexical_leg_finds_only_what_matches() -> None:
    scores = np.array([0.0, 2.0, 0.0], dtype=np.float32)
    assert top_candidates(Retriever("words", "lexical"), scores, None, depth=3).documents.tolist() == [1]
    assert top_candidates(Retriever("profile", "semantic"), scores, None, depth=3).documents.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("kinds", "weights"),
    [
        ({"semantic": 0.8, "lexical": 0.2}, [0.2, 0.6, 0.2]),
        ({"semantic": 0.8, "lexical": 0.0}, [0.2, 0.6, 0.0]),
        ({"semantic": 0.0, "lexical": 0.0}, [0.0, 0.0, 0.0]),
    ],
)
def test_a_kinds_weight_is_divided_among_its_legs(kinds: dict[str, float], weights: list[float]) -> None:
    legs = [
        Retriever("interest", "semantic", weight=0.25),
        Retriever("interest", "semantic", weight=0.75),
        Retriever("words", "lexical"),
    ]
    assert retriever_weights(legs, kinds) == pytest.approx(weights)


def test_a_blend_adds_shares_of_scores_and_of_ranks() -> None:
    one = Candidates("profile", "semantic", np.array([3, 1, 2]), np.array([9.0, 5.0, 1.0]))
    other = Candidates("ease", "ease", np.array([1]), np.array([0.5]))
    fused = fuse([one, other], [0.5, 0.0], "blend", [0.25, 0.75])
    by_rank = 61 / np.array([61.0, 62.0, 63.0])
    expected = {3: 0.5 + 0.25, 1: 0.5 * 0.5 + 0.25 * by_rank[1] + 0.75, 2: 0.5 * 0.001 + 0.25 * by_rank[2]}
    assert dict(zip(fused.documents.tolist(), fused.scores.tolist(), strict=True)) == pytest.approx(expected)
    assert fused.contributions.sum(axis=1) == pytest.approx(fused.scores)


@pytest.mark.parametrize("by_rank", [0.0, 0.1])
def test_a_blend_never_prefers_the_worse_of_two_near_the_lowest(by_rank: float) -> None:
    scores = np.array([1.0, 0.5, 0.0001, 0.0])
    one = Candidates("profile", "semantic", np.array([4, 3, 2, 1]), scores)  # of equal ones document 1 comes first
    other = Candidates("words", "lexical", np.array([9]), np.array([1.0]))
    found = result(fuse([one, other], [1.0, 0.5], "blend", [by_rank, 0.0]))
    assert found[2] - found[1] == pytest.approx(by_rank * 61 * (1 / 63 - 1 / 64))
    assert found[1] == pytest.approx(0.001 + by_rank * 61 / 64)


def test_near_ties_share_a_rank() -> None:
    scores = np.array([1.0, 0.8, 0.799995, 0.5])
    assert shared_ranks(scores).tolist() == [1.0, 2.0, 2.0, 4.0]
    assert shared_ranks(np.empty(0)).tolist() == []
