"""The place of a page: its size, and whether another one comes next."""

import pytest

from vlm4rec_search.serve.paging import DEPTH, Paging
from vlm4rec_search.serve.schemas import LARGEST_PAGE


@pytest.mark.parametrize(
    ("k", "before", "size"),
    [(10, 0, 10), (10, 50, 10), (10, DEPTH - 3, 3), (10, DEPTH, 0), (1_000, 0, LARGEST_PAGE)],
)
def test_a_page_has_what_was_asked_for_within_the_limits(k: int, before: int, size: int) -> None:
    assert Paging("id", 1, k, before).size == size


@pytest.mark.parametrize(
    ("before", "items", "has_next"),
    [(0, 10, True), (0, 9, False), (0, 0, False), (DEPTH - 11, 10, True), (DEPTH - 10, 10, False), (DEPTH, 0, False)],
)
def test_a_full_page_that_does_not_reach_the_depth_has_a_next_one(before: int, items: int, has_next: bool) -> None:
    expected = "/v1/recommendations/id?page=4" if has_next else None
    assert Paging("id", 3, 10, before).following(items) == expected
