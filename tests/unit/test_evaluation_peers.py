"""The collaborative peers by hand: recency, EASE, neighbours of items and of users, and what is not installed."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.interaction_logs import DAY, START, drifting, made, planted

from vlm4rec_search.evaluation.data import Split
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems import load_systems
from vlm4rec_search.evaluation.systems.base import System
from vlm4rec_search.evaluation.systems.behaviour import Popularity
from vlm4rec_search.evaluation.systems.peers import Ease, Factors, ItemKNN, UserKNN, recent_histories

NOW = START + 20 * DAY
#  user 0: items 0, 1; user 1: items 0, 1, 2; user 2: item 0, twice; nobody: item 3
SMALL = [(0, 0, 10), (0, 1, 20), (1, 0, 20), (1, 1, 20), (1, 2, 20), (2, 0, 0), (2, 0, 10)]
WEIGHTS = np.array([[0.5, 1, 0, 0], [1, 1, 1, 0], [0.5, 0, 0, 0]])


def small() -> Split:
    return made(SMALL, np.eye(4)).split(NOW)


def scores_of(system: System, user: int) -> list[float]:
    system.fit(small())
    return [float(value) for value in system.scores(np.array([user]))[0]]


def test_the_latest_event_decides_how_recent_an_item_is() -> None:
    assert recent_histories(small(), 10.0).toarray() == pytest.approx(WEIGHTS)


def test_without_a_half_life_every_item_weighs_the_same() -> None:
    assert recent_histories(small(), np.inf).toarray().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]


def test_ease_is_its_closed_form() -> None:
    known = WEIGHTS[:, :3]
    inverse = np.linalg.inv(known.T @ known + 0.5 * np.eye(3))
    coefficients = -inverse / np.diag(inverse)
    np.fill_diagonal(coefficients, 0.0)
    expected = known @ coefficients
    for user in range(3):
        found = np.array(scores_of(Ease(10.0, 0.5), user))
        assert found[3] == -np.inf, "nobody has taken item 3"
        positive = expected[user] > 0
        assert found[:3][positive] == pytest.approx(expected[user][positive], abs=1e-6)
        assert (found[:3][~positive] == -np.inf).all()


def test_item_knn_by_hand() -> None:
    """User 2 has item 0 with weight 1/2; the squared lengths of items 0, 1 and 2 are 3/2, 2 and 1."""
    expected = [-np.inf, 0.5 * 1.5 / np.sqrt(1.5 * 2), 0.5 * 1 / np.sqrt(1.5), -np.inf]
    assert scores_of(ItemKNN(10.0, 0.5), 2) == pytest.approx(expected)
    shrunk = [-np.inf, expected[1] * 1.5 / (1.5 + 5), expected[2] * 1 / (1 + 5), -np.inf]
    assert scores_of(ItemKNN(10.0, 0.5, 5.0), 2) == pytest.approx(shrunk)


def test_user_knn_by_hand() -> None:
    """User 2 is like user 1 by 1 / sqrt(3) and like user 0 by 0.5 / sqrt(1.25)."""
    first, second = 1 / np.sqrt(3), 0.5 / np.sqrt(1.25)
    assert scores_of(UserKNN(10.0, 1), 2) == pytest.approx([first, first, first, -np.inf])
    assert scores_of(UserKNN(10.0, 9), 2) == pytest.approx([first + second / 2, first + second, first, -np.inf])


def test_peers_choose_on_validation_and_beat_what_forgets_nothing() -> None:
    log = drifting()
    now = START + 80 * DAY
    before, split = log.split(now - 10 * DAY), log.split(now)
    parts = Parts(Part(before, log.until(now).targets(before)), Part(split, log.targets(split)))
    found = evaluate(parts, [*load_systems(["ease", "item-knn", "user-knn"]), Popularity()])
    values = {outcome.system: outcome.values[:, 0].mean() for outcome in found.comparisons[0].outcomes}
    settings = {outcome.system: outcome.setting for outcome in found.comparisons[0].outcomes}
    assert settings["ease"].startswith("half-life 10 days, lambda"), "in this world nothing but the newest counts"
    assert min(values[name] for name in ("ease", "item-knn", "user-knn")) > values["popularity"]


def test_peers_forget_nothing_where_tastes_are_stable() -> None:
    log = planted()
    log = replace(log, times=START + 10 * (log.times - START))  # the same choices over 1,000 days
    before, split = log.split(START + 800 * DAY), log.split(START + 900 * DAY)
    parts = Parts(Part(before, log.until(START + 900 * DAY).targets(before)), Part(split, log.targets(split)))
    found = evaluate(parts, load_systems(["ease", "item-knn", "user-knn"]))
    settings = [outcome.setting for outcome in found.comparisons[0].outcomes]
    assert all(setting.startswith("no half-life, ") for setting in settings), settings
    assert "no half-life, 32 factors" in {variant.setting for variant in Factors("als").variants()}


def test_reasons_name_an_item_of_the_history() -> None:
    system = ItemKNN()
    system.fit(small())
    assert system.reasons(2, np.array([1])) == ['Follows from "item 0".']


def test_without_the_extra_the_rows_of_implicit_are_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.als", None)
    log = planted()
    split = log.split(START + 70 * DAY)
    parts = Parts(None, Part(split, log.targets(split)))
    found = evaluate(parts, [Popularity(), *load_systems(["als", "bpr"])])
    reason = "the package implicit.als is not installed: pip install 'vlm4rec-search[peers]'"
    assert found.skipped == {"als": reason, "bpr": reason}


DEFAULTS = {
    "ease": "half-life 20 days, lambda 300",
    "item-knn": "half-life 20 days, exponent 0.25, shrinkage 0",
    "user-knn": "half-life 10 days, 500 neighbours",
    "als": "half-life 60 days, 64 factors",
    "bpr": "64 factors",
    "recent-popularity": "30 days",
    "recent-co-purchase": "30 days",
}


def test_without_a_validation_part_systems_take_their_defaults_and_say_so() -> None:
    pytest.importorskip("implicit", reason="the extra peers is not installed")
    log = planted()
    split = log.split(START + 70 * DAY)
    few = replace(split.catalogue, vectors={**split.catalogue.vectors, "title": np.zeros((160, 8), dtype=np.float32)})
    few.vectors["title"][:100] = 1.0
    split = replace(split, catalogue=few)
    part = Part(split, log.targets(split))
    found = evaluate(Parts(None, part), load_systems([*DEFAULTS, "popularity", "title-only"]))
    assert len(found.comparisons) == 2, "the other one is on what title-only covers"
    for comparison in found.comparisons:
        settings = {outcome.system: outcome.setting for outcome in comparison.outcomes}
        unchosen = {name: f"{setting}; not chosen" for name, setting in DEFAULTS.items()}
        assert settings == {**unchosen, "popularity": "", "title-only": ""}
    chosen = evaluate(Parts(part, part), load_systems(["recent-popularity"]))
    assert "not chosen" not in chosen.comparisons[0].outcomes[0].setting


def test_an_item_model_that_has_nothing_to_learn_from_takes_no_part() -> None:
    items = 2_003
    rows = [(user, item, 10) for user in range(2) for item in range(items - 1)]
    log = made([*rows, (0, items - 1, 50)], np.eye(items))
    split = log.split(NOW)
    found = evaluate(Parts(None, Part(split, log.targets(split))), load_systems(["popularity", "ease", "item-knn"]))
    assert [outcome.system for outcome in found.comparisons[0].outcomes] == ["popularity"]
    why = "there is nothing to learn from: no user with 2,000 items or fewer took one lately"
    assert found.skipped == {"ease": why, "item-knn": why}
