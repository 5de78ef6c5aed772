"""Diversity chooses the same first hits, however many are asked for."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm4rec_search.search.reranking import diversify


@given(seed=st.integers(0, 10_000), diversity=st.floats(0.0, 1.0), few=st.integers(1, 30), more=st.integers(31, 120))
@settings(max_examples=100, deadline=None)
def test_the_first_choices_do_not_depend_on_how_many_there_are(
    seed: int, diversity: float, few: int, more: int
) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(150, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = np.sort(generator.random(150).round(1))[::-1]
    first, penalties = diversify(vectors, scores, diversity, few)
    longer, more_penalties = diversify(vectors, scores, diversity, more)
    assert first.tolist() == longer[:few].tolist()
    assert penalties.tolist() == more_penalties[:few].tolist()
    assert len(set(longer.tolist())) == more


def test_the_next_choice_is_unlike_the_ones_before() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    chosen, penalties = diversify(vectors, np.array([1.0, 0.9, 0.2]), 0.5, 3)
    # Second choice: 0.5 x 0.875 - 0.5 x 1 for the twin of the first, 0.5 x 0 - 0.5 x 0 for the third.
    assert chosen.tolist() == [0, 2, 1]
    assert penalties.tolist() == [0.0, 0.0, 0.5]
