"""Top k: exact, with ties, whatever the block."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.interaction_logs import DAY, START, made, planted
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from vlm4rec_search.evaluation import top_k as ranking
from vlm4rec_search.evaluation.systems.base import VectorSystem
from vlm4rec_search.evaluation.systems.content import OnlyOne
from vlm4rec_search.evaluation.top_k import bound_of_top, rank, top_k


@given(seed=st.integers(0, 10**6), items=st.integers(1, 120), k=st.integers(1, 50), levels=st.integers(1, 6))
def test_equals_a_full_sort_with_many_ties(seed: int, items: int, k: int, levels: int) -> None:
    draw = np.random.default_rng(seed)
    values = draw.integers(0, levels, (4, items)).astype(np.float32)
    values[draw.random((4, items)) < 0.2] = -np.inf
    candidates = draw.random(items) < 0.8
    hidden = sparse.csr_array((draw.random((4, items)) < 0.2).astype(np.float32))
    usable = np.isfinite(values) & candidates & (hidden.toarray() == 0)
    found = top_k(values.copy(), k, candidates, hidden)
    for row in range(4):
        best = sorted(np.flatnonzero(usable[row]), key=lambda item: (-values[row, item], item))[:k]
        assert found[row].tolist() == best + [-1] * (k - len(best))


def test_few_more_than_k_values_reach_the_bound_of_the_top() -> None:
    values = np.random.default_rng(3).random((50, 1_003), dtype=np.float32)
    reached = (values >= bound_of_top(values, 10)[:, None]).sum(axis=1)
    assert reached.min() >= 10
    assert reached.mean() < 15


def test_a_few_scores_among_zeros_are_found_without_sorting_the_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((20, 2_000), dtype=np.float32)
    for row in values:
        row[np.random.default_rng(4).choice(2_000, 11, replace=False)] = np.arange(1.0, 12.0)
    sorted_cells = []
    lexsort = np.lexsort
    monkeypatch.setattr(np, "lexsort", lambda keys: sorted_cells.append(len(keys[0])) or lexsort(keys))
    assert np.take_along_axis(values, top_k(values, 10), axis=1).tolist() == [list(range(11, 1, -1))] * 20
    assert sorted_cells == [200]


def test_nan_is_never_ranked() -> None:
    values = np.array([[np.nan, 2.0, np.inf, -np.inf, 1.0]], dtype=np.float32)
    assert top_k(values, 5).tolist() == [[2, 1, 4, -1, -1]]


def test_k_above_the_catalogue_leaves_out_what_was_seen() -> None:
    split = planted().split(np.datetime64("2025-03-01"))
    system: VectorSystem = OnlyOne("description-only", "description")
    system.fit(split)
    users = np.arange(20)
    found = rank(system.scores, split, users, 1000)
    for row, user in enumerate(users):
        seen = set(split.seen.indices[split.seen.indptr[user] : split.seen.indptr[user + 1]].tolist())
        assert set(found[row][found[row] >= 0].tolist()) == set(range(160)) - seen


def test_what_was_sent_back_is_neither_ranked_nor_found_again() -> None:
    log = made([(0, 0, 0), (0, 1, 1), (0, 2, 9), (0, 3, 9)], np.eye(5))
    split = log.split(START + 5 * DAY)
    sent_back = sparse.csr_array(np.array([[1, 1, 1, 0, 0]], dtype=np.float32))
    split = replace(split, counts=sent_back)
    assert log.targets(split).relevant.toarray().tolist() == [[0, 0, 0, 1, 0]]
    found = rank(lambda users: np.ones((len(users), 5), dtype=np.float32), split, np.arange(1), 5)
    assert found.tolist() == [[3, 4, -1, -1, -1]]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    split = planted().split(np.datetime64("2025-03-01"))
    scores = np.random.default_rng(1).random((240, 160), dtype=np.float32)
    whole = rank(lambda users: scores[users].copy(), split, np.arange(240), 10)
    monkeypatch.setattr(ranking, "CELLS", 1000)
    assert (rank(lambda users: scores[users].copy(), split, np.arange(240), 10) == whole).all()
