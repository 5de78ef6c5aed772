"""Live comparisons: who gets which variant, how two lists become one, and what is found of a planted difference."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

import duckdb
import numpy as np
import pytest
from helpers.search_tables import made, shop, tables

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.live import by_arm, compare_live, differences, mismatch_probability
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.pointer import current_release
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.pipeline.served_log import CREATE_OUTCOMES
from vlm4rec_search.search.experiments import Experiment, Variant, experiment_of, team_draft
from vlm4rec_search.search.query import Hit, Query, Standing
from vlm4rec_search.search.ranking import Weights, load_ranking
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

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


def test_an_experiment_without_two_variants_names_the_obstacle() -> None:
    experiment = Experiment(b=Variant(release="old"))
    assert experiment.obstacle("new", ["old", "new"]) is None
    assert experiment.obstacle("new", ["new"]) == "the release old is gone or cannot be opened"
    assert experiment.obstacle("old", ["old", "new"]) == "a and b are both the release old, which is live"
    ranked = Experiment(a=Variant(ranking="other"), b=Variant(release="old"))
    assert ranked.obstacle("old", ["old"]) is None
    assert Experiment(b=OTHER).obstacle("new", []) is None


def hits(items: str, **standings: Standing) -> list[Hit]:
    """Return one hit for each letter."""
    return [Hit(rank, item, 1.0, item, standing=standings.get(item, Standing())) for rank, item in enumerate(items, 1)]


def mixed(a: Sequence[Hit], b: Sequence[Hit], query: Query, seed: int, shown: str = "") -> tuple[str, str]:
    """Return the items of the mixed list, and the teams, with - for none."""
    drafted = team_draft(a, b, shown, query, str(seed))
    return "".join(hit.item_id for hit, _ in drafted), "".join(team or "-" for _, team in drafted)


def test_two_captains_choose_in_turn_and_nothing_twice() -> None:
    first, firsts = Counter[str](), Counter[str]()
    for seed in range(1_000):
        items, teams = mixed(hits("abcd"), hits("bxay"), Query(user="u", k=5), seed)
        assert len(set(items)) == 5
        assert {teams[:2], teams[2:4]} <= {"ab", "ba"}
        assert items.index("a") < items.index("c"), "the order of a list stays"
        first[teams[0]] += 1
        firsts[items[0]] += 1
    assert 440 < first["a"] < 560
    assert firsts.keys() == {"a", "b"}


def test_what_is_left_of_the_longer_list_counts_for_neither() -> None:
    """Clicks that fall on the items of both lists alike make neither list better."""
    assert mixed(hits("ab"), hits(""), Query(user="u", k=5), 1) == ("ab", "--")
    chosen = Counter[str]()
    for seed in range(1_000):
        items, teams = mixed(hits("abc"), hits("abcdefghij"), Query(user="u"), seed)
        assert (items, teams[:2] in ("ab", "ba"), teams[3:]) == ("abcdefghij", True, "-------")
        chosen.update(teams)
    assert isclose(chosen["a"], chosen["b"], rel_tol=0.1)


def test_a_mixed_list_keeps_pins_first_and_buried_hits_last() -> None:
    pin, bury = Standing(pinned=True), Standing(buried=True)
    for seed in range(20):
        a, b = hits("pabcx", p=pin, x=bury), hits("pdxy", p=pin, x=bury, y=bury)
        items, teams = mixed(a, b, Query(user="u"), seed)
        assert (items[0], set(items[1:5]), items[5:], teams[5:]) == ("p", set("abcd"), "xy", "--")


def test_a_pin_that_only_one_variant_has_comes_first_too() -> None:
    pin, bury = Standing(pinned=True), Standing(buried=True)
    for seed in range(100):
        for a, b, teams in ((hits("abc"), hits("pabc", p=pin), "b"), (hits("pabc", p=pin), hits("abc"), "a")):
            items, chosen = mixed(a, b, Query(user="u"), seed)
            assert (items, chosen[0]) == ("pabc", teams)
        items, chosen = mixed(hits("qpab", q=pin, p=pin), hits("pxy", p=pin), Query(user="u"), seed)
        assert (set(items[:2]), set(items[2:]), len(items)) == (set("pq"), set("abxy"), 6)
        assert mixed(hits("pa", p=pin), hits("xy", x=bury, y=bury), Query(user="u"), seed) == ("paxy", "----")


def test_an_item_of_an_earlier_page_counts_for_the_caps_of_the_next() -> None:
    red = {item: Standing(value="red") for item in "ab"}
    query = Query(user="u", collapse="model")
    for seed in range(20):
        first, _ = mixed(hits("abc", **red), hits("bad", **red), query, seed)
        assert (len(first), len(set(first) & set("ab"))) == (3, 1)
        second, _ = mixed(hits("abc", **red), hits("bad", **red), query, seed, shown="a")
        assert set(second) == set("cd")


@pytest.mark.parametrize("field", ["category", "brand"])
def test_caps_and_rules_hold_for_two_searches_that_are_mixed(tmp_path: Path, field: str) -> None:
    build_release(tmp_path, tables(shop()), made())
    backend = EmbeddedBackend(Store(current_release(tmp_path)))
    rules = [Rule(action="pin", items=("00010", "00020")), Rule(action="bury", filter="price>=40")]
    other = load_ranking().model_copy(update={"weights": Weights(semantic=1, lexical=0, behaviour=0, popularity=0)})
    user = Query(user="u01", k=20)
    for query in (replace(user, per_category=2), replace(user, collapse=field), replace(user, k=40)):
        a, b = (Searcher(backend, None, ranking, rules).search(query).hits for ranking in (None, other))
        assert [hit.item_id for hit in a] != [hit.item_id for hit in b]
        for seed in range(5):
            drafted = [hit for hit, _ in team_draft(a, b, (), query, str(seed))]
            assert {hit.item_id for hit in drafted[:2]} == {"00010", "00020"}
            dear = [(hit.price or 0) >= 40 for hit in drafted[2:]]
            assert dear == sorted(dear)
            free = Counter(hit.category for hit in drafted[2:])
            assert max(free.values()) <= (query.per_category or query.k)
            values = [hit.standing.value for hit in drafted[2:] if hit.standing.value]
            assert len(values) == len(set(values))
            assert bool(values) == (query.collapse is not None)


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
