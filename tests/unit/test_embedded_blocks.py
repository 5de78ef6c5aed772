"""Many shoppers at once: plans and candidates are those of one search after the other, to the last bit."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
from helpers.search_tables import SHOPPERS, made, shop, tables

from vlm4rec_search.indexes.embedded import blocks
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.blocks import retrieve_users
from vlm4rec_search.indexes.embedded.pointer import current_release
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.query import Mode, Query
from vlm4rec_search.search.ranking import load_ranking
from vlm4rec_search.search.searcher import Searcher

PEOPLE = [*(f"u{number:02d}" for number in range(SHOPPERS)), "s00", "s01", "s02", "nobody"]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBackend]:
    folder = tmp_path_factory.mktemp("index")
    build_release(folder, tables(shop()), made())
    path = current_release(folder)
    assert path is not None
    opened = EmbeddedBackend(Store(path))
    yield opened
    opened.close()


def assert_equal_to_single_searches(backend: EmbeddedBackend, queries: list[Query], profile: str, depth: int) -> None:
    ranking = load_ranking().model_copy(update={"profile": profile, "depth": depth})
    searcher = Searcher(backend, ranking=ranking)
    together = list(retrieve_users(backend, queries, ranking))
    assert len(together) == len(queries)
    for query, (plan, retrieved) in zip(queries, together, strict=True):
        _, alone = searcher.plan(backend, query)
        assert (plan.tier, plan.weights) == (alone.tier, alone.weights)
        expected = backend.retrieve(alone.request).candidates
        assert [each.name for each in retrieved.candidates] == [each.name for each in expected]
        for one, other in zip(retrieved.candidates, expected, strict=True):
            assert one.documents.tolist() == other.documents.tolist(), (query.user, one.name)
            assert one.scores.tolist() == other.scores.tolist(), (query.user, one.name)


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize(("profile", "depth", "include_seen"), [("interests", 20, False), ("mean", 400, True)])
def test_blocks_find_what_single_searches_find(
    backend: EmbeddedBackend, mode: Mode, profile: str, depth: int, include_seen: bool
) -> None:
    queries = [Query(user=user, mode=mode, include_seen=include_seen) for user in PEOPLE]
    assert_equal_to_single_searches(backend, queries, profile, depth)


def test_blocks_apply_filters(backend: EmbeddedBackend) -> None:
    queries = [Query(user=user, filters=["category=bags", "price=..60"]) for user in PEOPLE]
    assert_equal_to_single_searches(backend, queries, "interests", 5)


def test_the_size_of_a_block_does_not_matter(backend: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "USERS", 7)
    monkeypatch.setattr(blocks, "CELLS", 700)
    assert_equal_to_single_searches(backend, [Query(user=user) for user in PEOPLE], "interests", 30)


def test_equal_vectors_tie_in_blocks_too(backend: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix product may give equal rows different last bits; candidates come in the order of the documents."""
    same = backend.store.vectors.copy()
    same[50:150] = same[50]
    monkeypatch.setattr(backend.store, "vectors", same)
    assert_equal_to_single_searches(backend, [Query(user=user, mode="semantic") for user in PEOPLE[:10]], "mean", 40)
    ranking = load_ranking().model_copy(update={"profile": "mean", "depth": 300})
    (_, retrieved), *_ = retrieve_users(backend, [Query(user="u00", mode="semantic", include_seen=True)], ranking)
    documents = retrieved.candidates[0].documents
    assert (np.diff(documents[np.isin(documents, np.arange(50, 150))]) == 1).all()
