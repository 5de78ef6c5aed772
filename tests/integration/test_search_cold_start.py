"""Searches beyond the profile: sessions, segments, the fallback chain as data, and one retriever for each interest."""

from math import sqrt
from pathlib import Path

import pytest
from helpers.backends import Backend
from helpers.six_items import RANKING, documents, given

from vlm4rec_search import Query
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.searcher import Searcher


def test_a_session_is_the_mean_of_its_items(index: Searcher) -> None:
    answer = index.search(Query(items=["a", "c", "gone"], mode="semantic", explain=True))
    assert answer.hits[0].explanation is not None
    assert answer.hits[0].explanation.sentence == 'It resembles "red dress" and "blue shoes" from this visit.'
    assert answer.note == "items that the release does not have are ignored: gone"
    scores = {hit.item_id: hit.score for hit in answer.hits}
    half = 1 / sqrt(2)
    assert scores == pytest.approx({"b": half * 1.4, "d": half * 0.6, "e": 0.0, "f": 0.0}, abs=1e-6)
    reason = answer.hits[0].explanation
    assert reason is not None
    assert [(part.item_id, part.share) for part in reason.history] == [
        ("a", pytest.approx(half * 0.8)),
        ("c", pytest.approx(half * 0.6)),
    ]


def test_a_session_of_unknown_items_is_refused(index: Searcher) -> None:
    with pytest.raises(UsageError, match="no item of the session is in the release"):
        index.search(Query(items=["gone"]))


def test_a_segment_is_filled_up_from_popularity(index: Searcher) -> None:
    answer = index.search(Query(user="u3", explain=True))
    assert [hit.item_id for hit in answer.hits] == list("ecbad")  # e and c of the segment, f was seen
    sentences = [hit.explanation.sentence for hit in answer.hits if hit.explanation]
    assert sentences == [
        "It is popular in the shopper's group (5 shoppers chose it in the last 60 days).",
        "2 shoppers chose it in the last 60 days.",
        "It is popular (7 shoppers first chose it in the last 30 days).",
        "3 shoppers first chose it in the last 30 days.",
        "Nothing better is left.",
    ]
    assert answer.note == (
        "user u3 has no history that a hybrid search can use, so the answer is what is popular in the user's segment of"
        " shoppers"
    )


def test_words_of_a_history_that_answer_beside_a_session_are_not_denied(index: Searcher) -> None:
    ranking = index.ranking
    index.ranking = ranking.model_copy(update={"fallback_chain": ("session", "profile", "popularity")})
    try:
        answer = index.search(Query(user="u1", items=["e"], mode="lexical", explain=True))
        assert (answer.tier, answer.note) == ("session", None)
        assert any('"dress"' in hit.explanation.sentence for hit in answer.hits if hit.explanation), "a word of u1"
    finally:
        index.ranking = ranking


def test_a_text_of_an_unknown_shopper_with_a_session_is_told_as_such(index: Searcher) -> None:
    answer = index.search(Query(user="new", recent=["a"], text="blue"))
    assert (answer.tier, answer.note) == (
        "session",
        "user new is not known, so the answer is what fits the text and goes with the items of the session",
    )


def test_the_fallback_chain_is_data(backend: Backend, tmp_path: Path) -> None:
    ranking = tmp_path / "ranking.yaml"
    ranking.write_text(RANKING.read_text("utf-8") + "\nladder: [category, session, popularity]\n", "utf-8")
    backend.publish(given(documents()))
    with backend.open(ranking=ranking) as index:
        tiers = {user: index.search(Query(user=user, items=["a"])).tier for user in ("u1", "u3", "u4")}
        assert index.search(Query(user="u3")).tier == "popularity"
        assert index.search(Query(user="u1")).note == (
            "the ranking puts the category before the profile of user u1, "
            "so the answer is what is popular in the categories that the user likes"
        )
    assert tiers == {"u1": "category", "u3": "session", "u4": "category"}


def test_a_session_may_come_before_the_profile_which_still_speaks(backend: Backend, tmp_path: Path) -> None:
    ranking = tmp_path / "ranking.yaml"
    ranking.write_text(RANKING.read_text("utf-8") + "\nladder: [session, profile, popularity]\n", "utf-8")
    backend.publish(given(documents()))
    with backend.open(ranking=ranking) as index:
        answer = index.search(Query(user="u1", items=["c"], explain=True))
    assert (answer.tier, answer.note) == ("session", None)
    assert answer.hits[0].explanation is not None
    assert {"profile", "session"} <= {leg.name for leg in answer.hits[0].explanation.legs}


def test_each_interest_is_a_retriever(backend: Backend, tmp_path: Path) -> None:
    ranking = tmp_path / "ranking.yaml"
    ranking.write_text(RANKING.read_text("utf-8").replace("profile: mean", "profile: interests"), "utf-8")
    backend.publish(given(documents()))
    with backend.open(ranking=ranking) as index:
        hits = index.search(Query(user="u1", mode="semantic", explain=True)).hits
    # interest a (0.75): b 0.8, then c, e, f share rank 2 at 0; interest d (0.25): e 0.8, b 0.48, then c and f
    assert [hit.item_id for hit in hits] == list("becf")
    assert hits[0].score == pytest.approx(0.75 / 61 + 0.25 / 62)
    reason = hits[0].explanation
    assert reason is not None
    assert [(part.item_id, part.share) for part in reason.history] == [("a", pytest.approx(0.8))]
    assert reason.rest == pytest.approx(0.0, abs=1e-6)  # the shares are the whole of the nearest interest's cosine
