"""Every expectation of every suite: good tables pass, and one bad row makes exactly that expectation fail."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import yaml

from vlm4rec_search.pipeline.quality.runner import judge
from vlm4rec_search.pipeline.quality.suites import define_macros, load_suites, measure

ROOT = Path(__file__).resolve().parents[2]
SUITES = {suite.name: suite for suite in load_suites(ROOT / "expectations")}
GOOD = (ROOT / "tests/fixtures/good_tables.sql").read_text()

BETWEEN, IN_SET = "expect_column_values_to_be_between", "expect_column_values_to_be_in_set"
BAD = yaml.safe_load((ROOT / "tests/fixtures/bad_rows.yaml").read_text())
CASES = [(suite, case) for suite, cases in BAD.items() for case in cases]
CAPTIONS = "captions.item_captions"

Rule = tuple[str, str | None, str]


def key(case: dict[str, str]) -> Rule:
    return case["rule"], case.get("column"), case.get("severity", "critical")


@pytest.fixture
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(GOOD)
        define_macros(connection, ROOT / "expectations")
        yield connection


def broken_rules(connection: duckdb.DuckDBPyConnection, suite: str) -> set[Rule]:
    """Judge one suite and return the rules that the tables break."""
    report = judge([(SUITES[suite], measure(connection, SUITES[suite]))], max_age_days=30.0)
    result = report.suites[0]
    findings = {"critical": result.failed, "warning": result.warnings}
    return {(one.expectation, one.column, severity) for severity, many in findings.items() for one in many}


def test_every_expectation_has_a_bad_case() -> None:
    rules = [
        (suite.name, rule.type, rule.kwargs.get("column"), rule.severity)
        for suite in SUITES.values()
        for rule in suite.expectations
    ]
    assert sorted(rules, key=str) == sorted(((suite, *key(case)) for suite, case in CASES), key=str)


@pytest.mark.parametrize("suite", SUITES)
def test_good_tables_pass(tables: duckdb.DuckDBPyConnection, suite: str) -> None:
    assert broken_rules(tables, suite) == set()


@pytest.mark.parametrize(
    ("suite", "case"), CASES, ids=[f"{suite}-{'-'.join(map(str, key(case)))}" for suite, case in CASES]
)
def test_each_expectation_fails_on_a_bad_row(
    tables: duckdb.DuckDBPyConnection, suite: str, case: dict[str, str]
) -> None:
    tables.execute(case["sql"])
    rules = broken_rules(tables, suite)
    assert key(case) in rules
    assert {column for _, column, _ in rules - {key(case)}} == set(case.get("also", []))


def test_exactly_half_distinct_captions_are_enough(tables: duckdb.DuckDBPyConnection) -> None:
    # 3 + 5 distinct photos with 3 + 1 captions; a ninth row shows the same photo as another and does not count
    tables.execute(
        f"insert into {CAPTIONS} by name select 'n' || range as item_id, 'n' || range as photo_hash, 'ok' as status, "
        "'The same words.' as caption from range(5)"
    )
    tables.execute(f"update {CAPTIONS} set photo_hash = 'n1', caption = 'The same words.' where item_id = 'i4'")
    assert (IN_SET, "repeats", "warning") not in broken_rules(tables, "item_captions")


@pytest.mark.parametrize(("broken", "severity"), [(2, "warning"), (5, "critical")], ids=["few", "most"])
def test_a_handful_of_rows_breaks_no_share_unless_they_are_most_of_the_table(
    tables: duckdb.DuckDBPyConnection, broken: int, severity: str
) -> None:
    tables.execute(
        f"insert into staging.items by name select 'n' || range as item_id, 'n.jpg' as image from range({broken})"
    )
    tables.execute(
        f"insert into {CAPTIONS} by name "
        f"select 'n' || range as item_id, 'unreadable' as status, 'E' as error from range({broken})"
    )
    assert broken_rules(tables, "item_captions") == {(IN_SET, "captioned", severity)}


def test_rows_to_which_a_share_does_not_apply_do_not_count(tables: duckdb.DuckDBPyConnection) -> None:
    # 5 unreadable photos, 3 readable ones, and 37 items without a photo
    tables.execute(
        "insert into staging.items by name"
        " select 'n' || range as item_id, case when range < 5 then 'n.jpg' end as image from range(41)"
    )
    tables.execute(
        f"insert into {CAPTIONS} by name select 'n' || range as item_id,"
        " case when range < 5 then 'unreadable' else 'no_photo' end as status, 'E' as error from range(41)"
    )
    report = judge([(SUITES["item_captions"], measure(tables, SUITES["item_captions"]))])
    assert [(one.column, one.observed) for one in report.suites[0].failed] == [("captioned", "5 of 8 rows")]


def test_what_is_no_mistake_of_the_export_warns_in_no_suite(tables: duckdb.DuckDBPyConnection) -> None:
    tables.execute(
        "insert into staging.rejected_interactions (reason) values ('forgotten'), ('forgotten'),"
        " ('the purchase is in the log of the shop, too'), ('the purchase is in the log of the shop, too')"
    )
    tables.execute("insert into staging.rejected_users (reason) values ('forgotten'), ('forgotten')")
    assert broken_rules(tables, "rejected_rows") == broken_rules(tables, "rejected_values") == set()


def test_a_shopper_whose_weights_are_not_positive_needs_no_profile(tables: duckdb.DuckDBPyConnection) -> None:
    # a view, a purchase and its return; an item that has no vector
    tables.execute("insert into profiles.profile_weights select 'n' || range, 'i1', -0.61 from range(9)")
    tables.execute("insert into profiles.profile_weights select 'm' || range, 'gone', 1.0 from range(9)")
    assert broken_rules(tables, "user_profiles") == set()


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("suite", "column", "sql"),
    [
        ("item_popularity", "score", "update search.item_popularity set score = '{}' where rank = 4"),
        (
            "user_documents",
            "importance",
            "update search.user_documents set interests = [([-0.8, 0.6], '{}', 'i4', ['i4'])] where user_id = 'u3'",
        ),
        (
            "item_neighbours",
            "highest_similarity",
            "update search.item_neighbours set similarity = '{}' where item_id = 'i1'",
        ),
    ],
)
def test_a_number_that_is_not_finite_breaks_the_rules_about_it(
    tables: duckdb.DuckDBPyConnection, suite: str, column: str, sql: str, number: str
) -> None:
    tables.execute(sql.format(number))
    assert (IN_SET, f"{column} is finite", "critical") in broken_rules(tables, suite)


@pytest.mark.parametrize("suite", sorted(set(SUITES) - {"item_documents"}))
def test_empty_tables_fail_no_suite_but_the_documents(tables: duckdb.DuckDBPyConnection, suite: str) -> None:
    for (table,) in tables.execute("select schema_name || '.' || table_name from duckdb_tables()").fetchall():
        if table != "histories.as_of":
            tables.execute(f"delete from {table}")
    tables.execute("update histories.as_of set as_of = null, newest = null")
    assert {severity for *_, severity in broken_rules(tables, suite)} <= {"warning"}
    assert broken_rules(tables, "item_documents") == {("expect_table_row_count_to_be_between", None, "critical")}


@pytest.mark.parametrize("suite", SUITES)
def test_a_catalogue_without_photos_passes(tables: duckdb.DuckDBPyConnection, suite: str) -> None:
    tables.execute("update staging.items set image = null; delete from embeddings.image_embeddings")
    tables.execute(f"update {CAPTIONS} set image = null, photo_hash = null, status = 'no_photo', caption = null")
    tables.execute("update search.item_documents set image = null, caption = null")
    assert broken_rules(tables, suite) == set()


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("I cannot describe this photo.", True),
        ("I can\u2019t help with that.", True),
        ("I'm sorry, but the image is blurred.", True),
        ("A mug. I am unable to see more.", True),
        ("Unfortunately, the image is blank.", True),
        ("As an AI language model, I describe things.", True),
        ("This is hard to say as a large language model.", True),
        ("No image was provided.", True),
        ("Please upload an image of the product.", True),
        ('A T-shirt that reads "I can\'t even" in white letters.', False),
        ("A basic mug as an aid to breakfast, with no image printed on it.", False),
        ("A sorry-looking but charming bear.", False),
        ("A grey I-beam clamp; cannot rust.", False),
        ("", False),
    ],
)
def test_refusals_are_distinguished_from_descriptions(
    tables: duckdb.DuckDBPyConnection, text: str, refusal: bool
) -> None:
    assert tables.execute("select is_refusal(?)", [text]).fetchall() == [(refusal,)]


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("<b>Alder</b> tote", True),
        ("Mug <br> blue", True),
        ('<span id="productTitle" class="a">Mug', True),
        ("&lt;p&gt;Mug", True),
        ("<!-- hidden --> Mug", True),
        ("<script src=x", True),
        ("(function(f) {var _np=(window.P._namespace(", True),
        ("function go (x) { return 1 }", True),
        ("function (x) { return 1 }", True),
        ("var aPageStart = (new Date()).getTime();", True),
        ("document.write(1)", True),
        (".price {color: red; top: 0}", True),
        ("Weights < 5 kg and > 2 kg", False),
        ("I <3 mugs", False),
        ("Multi-function (10 in 1) tool", False),
        ("Each function (storage, sleep) counts", False),
        ("Sizes {S, M, L}; <M> is out of stock", False),
        ("Café & bar, 3 > 2", False),
        ("Looks out of the window. Document (A4) holder", False),
        ("SET OF 3 CAKE TINS PANTRY DESIGN {RETRO}", False),
    ],
)
def test_markup_is_distinguished_from_text(tables: duckdb.DuckDBPyConnection, text: str, markup: bool) -> None:
    assert tables.execute("select has_markup(?)", [text]).fetchall() == [(markup,)]
