"""The retriever of learned vectors: what it finds, how it is explained, and releases with and without such vectors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.six_items import FIT, documents, given, meta, users

from vlm4rec_search import Query, open_index
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.search.ranking import HistoryWeights, Weights, load_ranking
from vlm4rec_search.search.searcher import Searcher


@pytest.fixture
def index(tmp_path: Path) -> Searcher:
    build_release(tmp_path, given(documents()), meta())
    return open_index(str(tmp_path), ranking=load_ranking())


def test_only_items_with_a_learned_vector_are_found(index: Searcher) -> None:
    """u1 has the direction of a; d and e have no photo, a is seen."""
    hits = index.search(Query(user="u1", mode="fitted")).hits
    assert [(hit.item_id, hit.score) for hit in hits] == [("f", 0.8), ("b", 0.6), ("c", 0.0)]


def test_a_session_has_a_learned_direction_too(index: Searcher) -> None:
    """The unit mean of the vectors of a and c is (1, 1) / sqrt(2); d has none."""
    hits = index.search(Query(items=["a", "c", "d"], mode="fitted", explain=True)).hits
    assert [(hit.item_id, round(hit.score, 4)) for hit in hits] == [("b", 0.9899), ("f", 0.9899)]
    assert hits[0].explanation is not None
    assert hits[0].explanation.sentence == 'It has a learned likeness to "blue shoes" and "red dress".'


def test_shares_of_history_items_add_up_to_the_score(index: Searcher) -> None:
    hits = index.search(Query(user="u1", mode="fitted", explain=True)).hits
    for hit in hits:
        assert hit.explanation is not None
        parts = sum(part.share for part in hit.explanation.learned) + hit.explanation.learned_rest
        assert parts == pytest.approx(hit.score, abs=1e-6)
    assert hits[0].explanation is not None
    assert hits[0].explanation.sentence == 'It has a learned likeness to "red dress".'
    assert [(leg.name, leg.kind, leg.share) for leg in hits[0].explanation.legs] == [("fitted", "fitted", 1.0)]


def test_what_was_disliked_or_is_hardly_alike_is_no_reason(tmp_path: Path) -> None:
    """The cosines of f are 0.8 with a, -0.6 with c, which was disliked, and 0.35 with e."""
    learned = {"a": (1.0, 0.0), "c": (-0.96, 0.28), "e": (-0.28, 0.96), "f": (0.8, 0.6)}
    vectors = {item: np.array(vector, dtype=np.float32) for item, vector in learned.items()}
    frame = pd.DataFrame({"item_id": list(learned), "fit": FIT, "vector": list(vectors.values())})
    weights = {"a": 0.6, "e": 0.5, "c": -0.4}
    total = sum((weight * vectors[item] for item, weight in weights.items()), np.zeros(2))
    direction = np.array(total / np.linalg.norm(total), dtype=np.float32)
    people = users()
    people.at[0, "history"] = [{"item_id": item, "weight": weight} for item, weight in weights.items()]
    people.at[0, "fitted"] = direction
    build_release(tmp_path, replace(given(documents(), people), fitted=frame), meta())
    with open_index(str(tmp_path), ranking=load_ranking()) as opened:
        hits = opened.search(Query(user="u1", mode="fitted", explain=True)).hits
    first = next(hit for hit in hits if hit.item_id == "f")
    assert first.explanation is not None
    assert first.explanation.sentence == 'It has a learned likeness to "red dress".'
    assert [part.item_id for part in first.explanation.learned] == ["a", "e"], "c has a share above 0, too"
    shares = sum(part.share for part in first.explanation.learned) + first.explanation.learned_rest
    assert shares == pytest.approx(first.score, abs=1e-6)


def test_it_takes_part_in_hybrid_searches_with_its_weight(index: Searcher) -> None:
    def legs(**weights: float) -> list[str]:
        hit = index.search(Query(user="u1", weights=weights, explain=True)).hits[0]
        assert hit.explanation is not None
        return [leg.name for leg in hit.explanation.legs]

    assert "fitted" in legs()
    assert "fitted" not in legs(fitted=0)


def test_a_release_without_learned_vectors_answers_as_before(tmp_path: Path) -> None:
    """Nothing of the answers depends on the weight of a retriever that has nothing to say."""
    tables = given(documents(), users().assign(fitted=None))
    bare = replace(tables, fitted=tables.fitted[:0])
    build_release(tmp_path, bare, replace(meta(), fitted=None, fitted_dimension=None))
    with open_index(str(tmp_path), ranking=load_ranking()) as index:
        with_weight = index.search(Query(user="u1", explain=True)).hits
        without = index.search(Query(user="u1", explain=True, weights={"fitted": 0})).hits
        assert with_weight == without
        by_learned = index.search(Query(user="u1", mode="fitted"))
        assert (by_learned.tier, by_learned.note) == (
            "category",
            "the release has no learned vectors, which `vlm4rec fit` makes, so the answer is what is popular in the"
            " categories that the user likes",
        )


def test_a_ranking_of_learned_vectors_alone_says_that_a_release_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tables = given(documents(), users().assign(fitted=None))
    bare = replace(meta(), fitted=None, fitted_dimension=None)
    build_release(tmp_path, replace(tables, fitted=tables.fitted[:0]), bare)
    off = dict.fromkeys(Weights.model_fields, 0.0)
    alone = Weights(**{**off, "fitted": 1.0, "popularity": 0.02})
    learned = load_ranking().model_copy(update={"version": "learned", "weights": alone})
    words = Weights(**{**off, "fitted": 1.0, "lexical": 0.1})
    short = HistoryWeights(up_to=2, weights=alone)
    with open_index(str(tmp_path), ranking=learned, follow=60.0) as index:
        found = index.search(Query(user="u1"))
        assert (found.tier, found.note) == (
            "profile",
            "the ranking learned weighs fitted alone beside popularity, and the release has no learned vectors, which"
            " `vlm4rec fit` makes, so the other retrievers answer",
        )
        assert index.search(Query(user="u1", weights={"semantic": 1.0})).note is None
        assert "the ranking learned weighs fitted alone" in caplog.text
    assert learned.describe_missing(meta()) is None, "the release has learned vectors"
    assert load_ranking().describe_missing(bare) is None
    assert load_ranking().model_copy(update={"weights": words}).describe_missing(bare) is None
    assert load_ranking().model_copy(update={"by_history": (short,)}).describe_missing(bare)
    blend = {"fusion": "blend", "rank_weights": words}
    assert learned.model_copy(update=blend).describe_missing(bare) is None


@pytest.mark.parametrize(("vector", "number"), [([1.0, 0.0, 0.0], 1), ([0.5, 0.5], 1), ([float("nan"), 1.0], 1)])
def test_wrong_learned_vectors_are_not_published(tmp_path: Path, vector: list[float], number: int) -> None:
    tables = given(documents())
    wrong = tables.fitted.copy()  # type: ignore[union-attr]
    wrong.at[0, "vector"] = np.array(vector, dtype=np.float32)
    with pytest.raises(RunError, match=f"{number} learned vectors are not of length 1"):
        build_release(tmp_path, replace(tables, fitted=wrong), meta())


def test_the_release_names_its_fit(index: Searcher) -> None:
    assert index.backend.release.fitted == FIT  # type: ignore[attr-defined]
