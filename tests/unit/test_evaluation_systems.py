"""Systems by hand, and the guards of the protocol: oracle, chance, leaks, shuffled labels."""

from pathlib import Path

import numpy as np
import pytest
from helpers.interaction_logs import DAY, START, drifting, made, planted

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.data import Split
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.results import summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems import load_systems
from vlm4rec_search.evaluation.systems.base import System
from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity, Recent
from vlm4rec_search.evaluation.systems.content import BM25, OnlyOne, Pair, last_items

NOW = START + 70 * DAY
#  user 0: items 0, 1; user 1: items 0, 1, 2 (2 late); user 2: item 0
SMALL = [(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4), (1, 2, 60), (2, 0, 5), (2, 0, 6)]


def small(vectors: "np.ndarray | None" = None) -> Split:
    return made(SMALL, np.eye(4) if vectors is None else vectors).split(NOW)


def scores_of(system: System, split: Split, user: int) -> list[float]:
    system.fit(split)
    return [float(value) for value in system.scores(np.array([user]))[0]]


def test_popularity_counts_users_and_forgets() -> None:
    assert scores_of(Popularity(), small(), 2) == [3, 2, 1, -np.inf]
    assert scores_of(Popularity(days=20), small(), 2) == [-np.inf, -np.inf, 1, -np.inf]


def test_co_purchase_by_hand() -> None:
    """User 2 has item 0 (3 users): item 1 shares 2 of 3 and 2 users, item 2 one of 3 and 1."""
    expected = [-np.inf, 2 / np.sqrt(6), 1 / np.sqrt(3), -np.inf]
    assert scores_of(CoPurchase(), small(), 2) == pytest.approx(expected)
    assert scores_of(CoPurchase(days=20), small(), 2) == [-np.inf] * 4, "only one item was taken lately"


def test_vectors_alone_side_by_side_and_averaged() -> None:
    split = small(np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]))
    split.catalogue.vectors["vision"] = np.array([[1, 0], [0, 1], [0, 0], [1, 0]], dtype=np.float32)
    half = 1 / np.sqrt(2)
    assert scores_of(OnlyOne("description-only", "description"), split, 0) == pytest.approx([half, half, 0, 1])
    vision = OnlyOne("vision-only", "vision")
    assert scores_of(vision, split, 0) == pytest.approx([half, half, -np.inf, half])
    covered = vision.covers()
    assert covered is not None
    assert covered.tolist() == [True, True, False, True]
    # Side by side, cosines of one pair of unit vectors are averaged: user 2 has item 0, item 3 agrees by 0.71 and 1.
    both = Pair("description+vision-concat", "description", "vision", average=False)
    assert scores_of(both, split, 2) == pytest.approx([1, 0, -np.inf, (half + 1) / 2])
    split.catalogue.vectors["vision"] = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
    mean = Pair("description+vision-mean", "description", "vision", average=True)
    # (1, 1, 0) / 2 against (0, 2, 0) / 2, and against (0, 1, 1) / 2.
    assert scores_of(mean, split, 2) == pytest.approx([1, half, 1 / 2, 0.9239], abs=1e-4)


def test_bm25_asks_with_the_titles_of_the_last_items() -> None:
    split = small()
    split.catalogue.titles[:] = ["red lamp", "blue chair", "green chair", "red chairs"]
    found = scores_of(BM25(), split, 2)
    # "red lamp": item 3 has "red", in 2 of 4 titles of 2 words each: ln(1 + 2.5 / 2.5) / (1 + 1.2).
    assert found[3] == pytest.approx(np.log(2) / 2.2)
    assert found[1] == found[2] == -np.inf
    rows = last_items(made([(0, 0, 1), (0, 1, 2), (0, 0, 3), (0, 2, 4)], np.eye(4)).split(NOW), 2)
    assert rows.toarray().tolist() == [[1, 0, 1, 0]], "the last two different items"


def test_what_cannot_take_part_says_why() -> None:
    log = planted()
    split = log.split(NOW)
    part = Part(split, log.targets(split))
    systems = [Popularity(), OnlyOne("vision-only", "vision")]
    assert evaluate(Parts(None, part), systems).skipped == {"vision-only": "no item has a vision vector"}
    with pytest.raises(UsageError, match="no system can be evaluated: vision-only"):
        evaluate(Parts(None, part), systems[1:])
    with pytest.raises(UsageError, match="there is no system 'magic': choose among description-only"):
        load_systems(["magic"])
    with pytest.raises(UsageError, match="twice"):
        load_systems(["bm25", "bm25"])
    with pytest.raises(UsageError, match="validation before test"):
        Protocol(validation=0.9, test=0.8)


def test_other_packages_register_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "plugged-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vlm4rec_search.systems]\nplugged = plugged:Plugged\n")
    base = "from vlm4rec_search.evaluation.systems.behaviour import Popularity\n"
    (tmp_path / "plugged.py").write_text(f"{base}def Plugged():\n    return Popularity('plugged', 3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    (system,) = load_systems(["plugged"])
    assert (system.name, system.setting) == ("plugged", "3 days")


def test_windows_are_chosen_on_validation_and_partial_coverage_is_matched() -> None:
    log = drifting()
    before, split = log.split(NOW - 10 * DAY), log.split(NOW)
    vision = np.zeros((200, 2), dtype=np.float32)
    vision[::2] = 1
    split.catalogue.vectors["vision"] = vision
    until = log.until(NOW)
    parts = Parts(Part(before, until.targets(before)), Part(split, log.targets(split)))
    found = evaluate(parts, [Recent("recent-popularity", Popularity), Popularity(), OnlyOne("vision-only", "vision")])
    assert found.comparisons[0].outcomes[0].setting == "7 days", "in this world nothing but the newest counts"
    whole, matched = found.comparisons
    assert (whole.on, matched.on) == ("all candidates", "what vision-only covers")
    assert (whole.part.split.candidates.sum(), matched.part.split.candidates.sum()) == (200, 100)
    for outcome in matched.outcomes:
        assert (outcome.ranking[outcome.ranking >= 0] % 2 == 0).all()
    rows = summarise(found, {}, 7).rows
    assert {(row.system, row.on) for row in rows if row.metric == "R@10"} == {
        (system, on) for system in ("recent-popularity", "popularity", "vision-only") for on in (whole.on, matched.on)
    }
    sure = [(row.low, row.value, row.high) for row in rows if row.low is not None and row.high is not None]
    outside = [
        (low, value, high) for low, value, high in sure if value is None or not low - 1e-9 <= value <= high + 1e-9
    ]
    assert (len(sure) > 100, outside) == (True, [])
