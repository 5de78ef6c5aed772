"""The paper's table beside ours, its claim in words, and reasons for what systems rank."""

import numpy as np
import pytest
from helpers.interaction_logs import DAY, START, made

from vlm4rec_search.evaluation.paper import SYSTEMS, TABLE, beside_paper, effect
from vlm4rec_search.evaluation.results import Results, Row
from vlm4rec_search.evaluation.significance import Difference
from vlm4rec_search.evaluation.systems import registry
from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity
from vlm4rec_search.evaluation.systems.content import OnlyOne


def test_every_row_of_the_paper_is_a_system_here() -> None:
    assert set(SYSTEMS) <= set(registry())
    assert len(set(SYSTEMS)) == len(TABLE) == 12
    rows = [
        Row("title-only", metric, value, 0.0, 1.0, 9, 9, "all") for metric, value in (("R@10", 0.2), ("nDCG@10", 0.1))
    ]
    other = Row("title-only", "R@10", 0.9, 0.0, 1.0, 9, 9, "some")
    found = {row.system: row for row in beside_paper([*rows, other], "all")}
    title = found["title-only"]
    assert (title.paper_recall, title.recall, title.paper_ndcg, title.ndcg) == (0.2285, 0.2, 0.1838, 0.1)
    assert found["vision-only"].recall is None
    assert next(iter(found)) == "description-only"


def difference(a: str, b: str, value: float, corrected: float = 0.02) -> Difference:
    return Difference(a, b, value, value - 0.02, value + 0.02, 0.01, corrected)


@pytest.mark.parametrize(
    ("value", "corrected", "verdict"),
    [(0.05, 0.02, "is better than"), (-0.05, 0.02, "is worse than"), (0.05, 0.06, "cannot be told from")],
    ids=["better", "worse", "unsure"],
)
def test_the_claim_is_judged_from_either_side(value: float, corrected: float, verdict: str) -> None:
    """By the p-value after Holm, as all other verdicts of a report are, whatever the interval of the one pair."""
    pairs = [
        difference("description-only", "title-only", value, corrected),
        difference("vision-only", "description-only", -value, corrected),
        difference("title-only", "vision-only", 0.3),
    ]
    first, second = effect(Results({}, [], [], {"nDCG@10": pairs}))
    assert first.startswith(f"description-only {verdict} title-only: nDCG@10 differs by {value:+.4f}")
    assert second == first.replace("title-only", "vision-only")


def test_reasons_name_what_speaks_most_for_an_item() -> None:
    """User 0 has items 0 and 1; item 2 looks like item 1, and user 1 took it with item 0."""
    log = made([(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 2, 2)], np.array([[1.0, 0], [0, 1], [0.1, 1], [-1, -1]]))
    split = log.split(START + 70 * DAY)
    looks = OnlyOne("description-only", "description")
    looks.fit(split)
    assert looks.reasons(0, np.array([2, 3])) == ['Resembles "item 1".', ""]
    together = CoPurchase()
    together.fit(split)
    assert together.reasons(0, np.array([2])) == ['Taken by those who took "item 0".']
    often = Popularity()
    often.fit(split)
    assert often.reasons(0, np.array([0])) == ["Shoppers who took it: 2."]
