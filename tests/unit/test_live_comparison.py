"""Live comparisons: who gets which variant, how two lists become one, and what is found of a planted difference."""

from collections import Counter
from math import isclose

import duckdb
import numpy as np
import pytest

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.live import by_arm, compare_live, differences, mismatch_probability
from vlm4rec_search.pipeline.served_log import CREATE_OUTCOMES
from vlm4rec_search.search.experiments import Experiment, Variant, experiment_of, team_draft

OTHER = Variant(ranking="other")
SHOPPERS = [f"u{number}" for number in range(4_000)]


def test_a_hash_assigns_shoppers_by_the_share_and_always_alike() -> None:
    experiment = Experiment(b=OTHER, share=0.2)
    arms = [experiment.arm("one", user) for user in SHOPPERS]
    assert arms == [experiment.arm("one", user) for user in SHOPPERS]
    assert 0.18 < arms.count("b") / len(arms) < 0.22
    others = [experiment.arm("two", user) for user in SHOPPERS]
    both = sum(one == two == "b" for one, two in zip(arms, others, strict=True))
    assert 0.03 < both / len(arms) < 0.05, "another experiment assigns independently"
    salted = Experiment(b=OTHER, share=0.2, salt="one")
    assert [salted.arm("two", user) for user in SHOPPERS] == arms


def test_the_first_experiment_of_the_scenario_counts_and_nobody_is_in_none() -> None:
    experiments = {"home": Experiment(b=OTHER, scenario="home"), "all": Experiment(b=OTHER)}
    for scenario, name in (("home", "home"), ("cart", "all"), (None, "all")):
        found = experiment_of(experiments, scenario, "u1")
        assert found is not None
        assert found[0] == name
    assert experiment_of(experiments, "home", None) is None
    with pytest.raises(ValueError, match="a and b are the same"):
        Experiment(b=Variant())


def test_two_captains_choose_in_turn_and_nothing_twice() -> None:
    first, firsts = Counter[str](), Counter[str]()
    for seed in range(1_000):
        mixed = team_draft("abcd", "bxay", ("abcd", "bxay"), 5, str(seed))
        items = [item for item, _ in mixed]
        assert len(set(items)) == 5
        teams = "".join(team for _, team in mixed)
        assert {teams[:2], teams[2:4]} <= {"ab", "ba"}
        assert items.index("a") < items.index("c"), "the order of a list stays"
        first[teams[0]] += 1
        firsts[items[0]] += 1
    assert 440 < first["a"] < 560
    assert firsts.keys() == {"a", "b"}
    assert team_draft("ab", "", ("ab", ""), 5, "1") == [("a", "a"), ("b", "a")]


def test_a_planted_difference_is_found_and_none_where_there_is_none() -> None:
    """Clicks of 500 shoppers in 1,000 comparisons; in the planted ones, b is clicked on 60% instead of 40%."""
    draw = np.random.default_rng(7)
    in_b = draw.random((500, 1_000)) < 0.5
    for planted, low, high in ((0.0, 0.03, 0.075), (0.2, 0.95, 1.0)):
        clicked = (draw.random((500, 1_000)) < 0.4 + planted * in_b).astype(np.float64)
        _, lows, highs, p = differences(by_arm(clicked, in_b), resamples=1_000)
        found = float(np.mean((lows > 0) | (highs < 0)))
        assert low <= found <= high, planted
        assert abs(found - np.mean(p < 0.05)) < 0.02


def test_numbers_of_shoppers_that_do_not_fit_the_share_are_told() -> None:
    assert isclose(mismatch_probability(500, 500, 0.5), 1.0)
    assert isclose(mismatch_probability(450, 550, 0.5), 0.00157, rel_tol=0.01)  # chi-squared 10, one degree of freedom
    assert mismatch_probability(800, 200, 0.2) == 1.0
    assert mismatch_probability(600, 400, 0.5) < 1e-9


def served(answers: str, events: str) -> duckdb.DuckDBPyConnection:
    """Return a database with answers (id, shopper, arm, item, team) and events (id, kind, item)."""
    connection = duckdb.connect()
    connection.execute(
        f"""CREATE SCHEMA served;
        CREATE TABLE served.recommendations AS
        SELECT * REPLACE (CAST(arm AS VARCHAR) AS arm, CAST(team AS VARCHAR) AS team), 'new' AS experiment
        FROM (VALUES {answers}) AS each (recommendation_id, user_id, arm, item_id, team);
        CREATE TABLE served.events AS FROM (VALUES {events}) AS each (query_id, kind, item_id);
        {CREATE_OUTCOMES}"""
    )
    return connection


def test_events_are_credited_to_the_variant_that_answered() -> None:
    answers = "('1', 'u1', 'a', 'x', NULL), ('1', 'u1', 'a', 'y', NULL), ('2', 'u1', 'a', 'x', NULL),"
    answers += "('3', 'u2', 'a', 'x', NULL), ('4', 'u3', 'b', 'x', NULL), ('5', 'u4', 'b', 'x', NULL),"
    answers += "('6', 'u5', 'a', 'x', NULL), ('7', 'u5', 'b', 'x', NULL), ('8', NULL, 'b', 'x', NULL)"
    events = "('1', 'click', 'x'), ('1', 'click', 'y'), ('4', 'view', 'x'), ('4', 'view', 'x'), ('5', 'click', 'z'),"
    events += "('5', 'purchase', 'x'), ('9', 'click', 'x')"
    result = compare_live(served(answers, events), "new", Experiment(b=OTHER))
    assert (result.shoppers_a, result.shoppers_b, result.answers, result.switched) == (2, 2, 7, 1)
    empty = compare_live(served(f"{answers}, ('9', 'u4', 'b', NULL, NULL)", events), "new", Experiment(b=OTHER))
    assert (empty.answers, empty.outcomes[0].b, empty.outcomes[2].b) == (8, 0.5, 0.25)  # an answer without items
    click, _, purchase = result.outcomes
    assert (click.a, click.b, purchase.a, purchase.b) == (0.25, 0.5, 0.0, 0.5)
    assert click.low <= click.difference <= click.high
    assert (click.verdict, result.is_void) == ("no difference can be told", False)
    with pytest.raises(UsageError, match="has 0 and 0 shoppers"):
        compare_live(served(answers, events), "new", Experiment(b=OTHER, method="interleave"))


@pytest.mark.parametrize("method", ["split", "interleave"])
def test_a_handful_of_shoppers_gives_no_verdict(method: str) -> None:
    """Two shoppers of each variant, of whom all of one variant clicked: the bootstrap's interval has no width."""
    arm, team = ("'{}'", "NULL") if method == "split" else ("NULL", "'{}'")
    pairs = [(number, "ab"[number % 2]) for number in range(4)]
    rows = [f"('{n}', 'u{n}', {arm.format(side)}, '{side}', {team.format(side)})" for n, side in pairs]
    events = "('1', 'click', 'b'), ('3', 'click', 'b')"
    result = compare_live(
        served(", ".join(rows), events), "new", Experiment.model_validate({"b": OTHER, "method": method})
    )
    assert result.outcomes[0].difference > 0
    assert result.outcomes[0].verdict == "no difference can be told"


def test_an_interleaved_list_credits_the_team() -> None:
    answers = ", ".join(f"('{n}', 'u{n}', NULL, '{item}', '{item}')" for n in range(40) for item in "ab")
    events = ", ".join(f"('{n}', 'click', '{'a' if n % 8 == 0 else 'b'}')" for n in range(40))
    result = compare_live(served(answers, events), "new", Experiment(b=OTHER, method="interleave"))
    click = result.outcomes[0]
    assert (click.a, click.b, click.verdict, result.mismatch_p) == (0.125, 0.875, "b is better", None)
