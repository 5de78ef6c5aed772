"""Rules of the business: what they do to an answer, and how a file with a mistake is told."""

from datetime import UTC, datetime
from pathlib import Path
from timeit import timeit

import pytest
from helpers.backends import Backend
from helpers.six_items import RANKING, documents, given

from vlm4rec_search import Query
from vlm4rec_search.common.analyzer import ENGLISH, Analyzer, load_analyzer
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.filters import parse_filter
from vlm4rec_search.search.query import Answer
from vlm4rec_search.search.rules import Condition, Rule, load_rules, preset


@pytest.fixture(scope="module")
def shelf(backend: Backend) -> Backend:
    backend.publish(given(documents()))
    return backend


def answer(shelf: Backend, tmp_path: Path, rules: str, query: Query) -> Answer:
    file = tmp_path / "rules.yaml"
    file.write_text(f"rules:\n{rules}\nscenarios: {{home: {{}}, mail: {{}}}}", "utf-8")
    with shelf.open(ranking=RANKING, rules=file) as index:
        return index.search(query)


def ids(found: Answer) -> str:
    return "".join(hit.item_id for hit in found.hits)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("- {action: drop, filter: category=shoes}", "baedf"),  # without rules: bcaedf by popularity
        ("- {action: bury, filter: price<=30}", "aefbcd"),
        ("- {action: pin, items: [f, gone, c]}", "fcbaed"),
        ("- {action: boost, filter: category=lamps, factor: 100}", "ebcadf"),
        ("- {action: boost, items: [b], factor: 0.1}", "caebdf"),
        ("- {action: pin, items: [a]}\n- {action: drop, items: [a]}", "bcedf"),
        ("- {action: pin, items: [f]}\n- {action: bury, filter: available=false}", "fbcade"),
    ],
)
def test_rules_change_the_ranking(shelf: Backend, tmp_path: Path, rules: str, expected: str) -> None:
    assert ids(answer(shelf, tmp_path, rules, Query(user="nobody"))) == expected


def test_a_pin_respects_filters_and_what_was_seen(shelf: Backend, tmp_path: Path) -> None:
    rules = "- {action: pin, items: [d, e]}"
    assert ids(answer(shelf, tmp_path, rules, Query(user="u1"))) == "ebcf"  # d was seen
    assert ids(answer(shelf, tmp_path, rules, Query(user="nobody", filters=["category=dresses"]))) == "ba"


def test_a_rule_is_told_and_leaves_the_scores_of_one_leg(shelf: Backend, tmp_path: Path) -> None:
    rules = "- {action: pin, items: [f], reason: launch}\n- {action: boost, items: [b], factor: 2}"
    hits = answer(shelf, tmp_path, rules, Query(user="u2", mode="semantic", explain=True)).hits
    # u2 likes c: b has a cosine of 0.6, and the leg that finds the pinned item adds nothing
    assert [(hit.item_id, hit.score) for hit in hits[:2]] == [("f", 0.0), ("b", 1.2)]
    first, second = (hit.explanation for hit in hits[:2])
    assert first is not None
    assert second is not None
    assert first.rules == ("is pinned by a rule (launch)",)
    assert [leg.name for leg in second.legs] == ["profile"]
    assert first.sentence == "It is pinned by a rule (launch)."
    assert second.boosted == pytest.approx(0.6)
    assert second.sentence == (
        'Partly because it resembles "blue shoes" from the history; also because it is boosted by a rule (factor 2).'
    )


def test_a_pinned_item_is_not_said_to_be_put_last(shelf: Backend, tmp_path: Path) -> None:
    rules = "- {action: pin, items: [e], reason: launch}\n- {action: bury, filter: category=lamps, reason: old}"
    first, *_, last = answer(shelf, tmp_path, rules, Query(user="nobody", explain=True)).hits
    told = [(hit.item_id, hit.explanation and hit.explanation.rules) for hit in (first, last)]
    assert told == [("e", ("is pinned by a rule (launch)",)), ("d", ("is put last by a rule (old)",))]


def test_ids_are_text_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("rules:\n- {action: drop, items: [00001, 22423, 1e3, no]}", "utf-8")
    assert load_rules(tmp_path / "rules.yaml").rules[0].items == ("00001", "22423", "1e3", "no")


def test_ids_and_values_have_the_form_of_the_tables(tmp_path: Path) -> None:
    when = "{segment: [re\u0301gion], category: cafe\u0301}"
    text = f"rules:\n- {{action: drop, items: [zoe\u0308, ' 00042 ', '00\u200b43'], when: {when}}}"
    (tmp_path / "rules.yaml").write_text(text, "utf-8")
    (rule,) = load_rules(tmp_path / "rules.yaml").rules
    assert rule.matches("zo\u00eb", {})
    assert rule.items == ("zo\u00eb", "00042", "0043")
    assert rule.applies(Query(user="u", filters=["category=caf\u00e9"]), "r\u00e9gion")


def test_sections_without_entries_are_empty(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n# - {action: drop, items: [a]}\nscenarios:\n  mail:\n    # k: 6\n  home: {k: 12}")
    given = load_rules(file)
    assert given.rules == ()
    assert {name: each.options for name, each in given.scenarios.items()} == {"mail": {}, "home": {"k": 12}}
    file.write_text("scenarios:\n  mail: {k: 6}\n  mail: {k: 7}")
    with pytest.raises(UsageError, match="line 3 repeats the key 'mail' of line 2: write one"):
        load_rules(file)


def test_a_rule_of_many_items_is_asked_as_quickly_as_one_of_one() -> None:
    one, many = (Rule(action="drop", items=tuple(f"item-{n:06d}" for n in range(size))) for size in (1, 100_000))
    assert many.matches("item-099999", {})
    assert not many.matches("item-100000", {})
    few_seconds, many_seconds = (timeit(lambda: rule.matches("other", {}), number=1_000) for rule in (one, many))  # noqa: B023
    assert many_seconds < 50 * few_seconds  # a look through all of them takes thousands of times as long


class CountingAnalyzer(Analyzer):
    """Keeps the texts that it was given."""

    def analyze(self, text: str) -> list[str]:
        self.analyzed = [*getattr(self, "analyzed", []), text]
        return super().analyze(text)


def test_texts_of_many_rules_are_analysed_once() -> None:
    analyzer = CountingAnalyzer(ENGLISH.language)
    rules = [Rule(action="drop", items=("a",), when=Condition(text=f"dress {n}")) for n in range(300)]
    queries = [Query(text="the dress 7"), Query(text="the dress 9")]
    found = [[rule.note for rule in rules if rule.applies(query, None, analyzer)] for query in queries]
    assert list(map(len, found)) == [1, 1]
    assert len(analyzer.analyzed) == len(rules) + len(queries)


def test_pins_lead_before_diversity_and_caps(shelf: Backend, tmp_path: Path) -> None:
    rules = "- {action: pin, items: [f, a]}"
    query = Query(user="nobody", per_category=1, diversity=0.5, k=4)
    assert ids(answer(shelf, tmp_path, rules, query))[:2] == "fa"


def test_a_cap_counts_what_is_buried(shelf: Backend, tmp_path: Path) -> None:
    query = Query(user="nobody", per_category=1, k=6)
    found = answer(shelf, tmp_path, "- {action: bury, items: [b]}", query)
    categories = [hit.category for hit in found.hits]
    assert len(categories) == len(set(categories))


def test_an_answer_that_rules_empty_names_them(shelf: Backend, tmp_path: Path) -> None:
    rules = "- {action: drop, filter: price<=50, reason: recalled}\n- {action: drop, items: [d, e, a, f]}"
    rules += "\n- {action: drop, items: [gone]}"
    for query in (Query(text="red dress"), Query(user="u1"), Query(user="u1", mode="lexical")):
        told = "business rules drop everything that was found: price<=50 (recalled)"
        found = answer(shelf, tmp_path, rules, query)
        assert (ids(found), (found.note or "")[: len(told)]) == ("", told), query
        assert "gone" not in (found.note or ""), "it dropped nothing"
    assert "items d, e, a and 1 more" in (answer(shelf, tmp_path, rules, Query(user="nobody")).note or "")


def test_a_pin_counts_for_caps(shelf: Backend, tmp_path: Path) -> None:
    query = Query(user="nobody", collapse="brand", k=6)
    assert ids(answer(shelf, tmp_path, "- {action: pin, items: [c]}", query)) == "cbedf"  # a is of c's brand
    assert ids(answer(shelf, tmp_path, "- {action: pin, items: [c, a]}", query)) == "cabedf"
    query = Query(user="nobody", per_category=1, k=6)
    assert ids(answer(shelf, tmp_path, "- {action: pin, items: [d]}", query)) == "dbcf"  # e is a lamp, too


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ("- {action: lift, items: [a]}", "rules.0.action"),
        ("- {action: pin, filter: a=1}", "a pin names its items"),
        ("- {action: drop}", "has either items or a filter"),
        ("- {action: drop, filter: nonsense}", "cannot read the filter 'nonsense'"),
        ("- {action: boost, items: [a], factor: -1}", "rules.0.factor"),
        ("- {action: boost, items: [a]}", "a boost has a factor"),
        ("- {action: bury, items: [a], factor: 2}", "other actions have none"),
        ('- {action: pin, items: ["\\ud800"]}', "the rule is not UTF-8 text"),
        ("- {action: drop, items: 00042}", r"rules.0.items: a list of ids is needed: write \[00042\]"),
        ("- {action: drop, items: [a], items: [b]}", "line 2 repeats the key 'items' of line 2"),
        ("- {action: drop, items: [a]}\nrules:", "line 3 repeats the key 'rules' of line 1"),
        ("- [", "is not YAML"),
    ],
)
def test_a_mistake_in_a_rule_is_one_line(shelf: Backend, tmp_path: Path, rules: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        answer(shelf, tmp_path, rules, Query(user="nobody"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("size=42", True), ("size=41..43", True), ("size>42", False), ("size<50", True), ("tags=b", True), ("x=1", False),
     ("tags=1..2", False)],
)  # fmt: skip
def test_filters_hold_for_values_as_in_an_index(text: str, expected: bool) -> None:
    assert parse_filter(text).matches({"size": ["42"], "tags": ["a", "b"]}) is expected


GIFT = "- {{action: pin, items: [f], when: {}}}"
DECEMBER, JANUARY = datetime(2026, 12, 5, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("when", "query", "applies"),
    [
        ("{scenario: [home, mail]}", Query(user="nobody", scenario="mail"), True),
        ("{scenario: home}", Query(user="nobody"), False),
        ("{text: Dresses}", Query(text="a red dress"), True),
        ("{text: red shoes}", Query(text="a red dress"), False),
        ("{text: dress}", Query(user="nobody"), False),
        ("{segment: s}", Query(user="u3"), True),
        ("{segment: s}", Query(user="u1", include_seen=True), False),
        ("{category: lamps}", Query(user="nobody", filters=["category=lamps"]), False),  # the pin has no category
        ("{from: 2026-12-01, until: 2027-01-01}", Query(user="nobody", at=DECEMBER), True),
        ("{from: 2026-12-01, until: 2027-01-01}", Query(user="nobody", at=JANUARY), False),
        ("{until: 2026-12-05T01:00:00+02:00}", Query(user="nobody", at=DECEMBER), False),
        ("{scenario: home, until: 2026-12-06}", Query(user="nobody", at=DECEMBER), False),
    ],
)
def test_a_rule_with_conditions_applies_to_some_searches(
    shelf: Backend, tmp_path: Path, when: str, query: Query, applies: bool
) -> None:
    rules = GIFT.format(when) if "segment" not in when else GIFT.format(when).replace("[f]", "[e]")
    first = ids(answer(shelf, tmp_path, rules, query))[0]
    assert (first == ("e" if "segment" in when else "f")) is applies


def test_a_condition_on_a_category_means_the_filter_of_the_search(shelf: Backend, tmp_path: Path) -> None:
    rules = "- {action: pin, items: [e], when: {category: lamps}}"
    assert ids(answer(shelf, tmp_path, rules, Query(user="nobody", filters=["category=lamps"]))) == "ed"
    assert ids(answer(shelf, tmp_path, rules, Query(user="nobody")))[0] != "e"


@pytest.mark.parametrize(
    ("when", "complaint"),
    [
        ("{until: 2026-01-01, from: 2026-02-01}", "a rule ends after it begins"),
        ("{text: '?!'}", "has no word"),
        ("{from: 20260601}", "cannot read the moment 20260601: write 2026-06-01"),
        ("{weekday: monday}", "weekday"),
    ],
)
def test_a_condition_that_cannot_be_is_told(tmp_path: Path, when: str, complaint: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(f"rules:\n{GIFT.format(when)}")
    with pytest.raises(UsageError, match=complaint):
        load_rules(file)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rules: [{action: drop, items: [a], when: {scenario: [mail, home]}}]", "rule 1 is for the scenario 'home'"),
        ("experiments: {weights: {scenario: home, b: {ranking: b.yaml}}}", "experiment 'weights' is for the"),
    ],
)
def test_a_scenario_that_the_file_lacks_is_told(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(f"scenarios: {{mail: {{}}}}\n{text}")
    with pytest.raises(UsageError, match=f"{complaint}.*it has mail"):
        load_rules(file)


@pytest.mark.parametrize(
    ("analyzer", "text", "query", "holds"),
    [
        ("french", "or", "bague en or", True),
        ("french", "or", "bague en argent", False),
        ("english", "IT", "it", True),
        ("english", "IT", "it bags", False),  # a stop word beside another word is none of its terms
        ("italian", "d'", "borse", False),  # no word of Italian, so that it holds for no search
    ],
)
def test_a_stop_word_of_english_may_be_the_text_of_a_rule(analyzer: str, text: str, query: str, holds: bool) -> None:
    condition = Condition(text=text)
    assert condition.holds(Query(text=query), None, load_analyzer(analyzer)) is holds


def test_a_scenario_presets_options_and_a_search_overrides_them(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("scenarios:\n  cart: {k: 4, mode: behaviour, weights: {popularity: '0'}}\n  home: {diversity: 0.3}")
    scenarios = load_rules(file).scenarios
    cart = Query(**preset(scenarios, "cart", {"user": "u1", "k": 2}))
    assert (cart.k, cart.mode, cart.weights, cart.scenario) == (2, "behaviour", {"popularity": 0.0}, "cart")
    with pytest.raises(UsageError, match="there is no scenario 'mail'; known are cart, home"):
        preset(scenarios, "mail", {"user": "u1"})
    file.write_text("scenarios: {cart: {k: 0}}")
    with pytest.raises(UsageError, match="k is 0: use a whole number"):
        load_rules(file)
