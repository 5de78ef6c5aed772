"""`vlm4rec check` on a real DuckDB file: report, page, history, exit codes, and errors in one line."""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import settings
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.indexes.search_layer import read_search_layer
from vlm4rec_search.pipeline.quality import measure_suites, run_suites

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / "expectations"
GOOD = (ROOT / "tests/fixtures/good_tables.sql").read_text()
LAYERS = ("raw", "staging", "histories", "captions", "embeddings", "profiles", "search")


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    execute(path, GOOD)
    return path


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, warehouse: Path) -> Iterator[Path]:
    """Point the settings at the warehouse; yield the folder of the page."""
    monkeypatch.setenv("VLM4REC_WAREHOUSE", str(warehouse))
    monkeypatch.setenv("VLM4REC_QUALITY", str(warehouse.parent / "quality"))
    settings.cache_clear()
    yield warehouse.parent / "quality" / "data_docs"
    settings.cache_clear()


def execute(path: Path, sql: str) -> None:
    with duckdb.connect(path) as connection:
        connection.execute(sql)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments])


def test_good_tables_pass_and_the_page_lists_every_suite(environment: Path) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert "All suites passed." in result.stdout
    assert str(environment / "index.html") in result.stdout
    suites = len(list(SUITES.glob("*.yaml")))
    assert f"{suites}/{suites}" in result.stderr
    page = (environment / "index.html").read_text("utf-8")
    listed = set(re.findall(r'<h2 id="(\w+)"', page))
    assert listed == {path.stem for path in SUITES.glob("*.yaml")}
    assert f"all {suites} suites passed" in page
    assert "Unit length, so that the dot product is the cosine" in page


def test_a_failure_is_reported_and_exits_with_1(environment: Path, warehouse: Path) -> None:
    execute(warehouse, "update search.item_documents set price = -1 where item_id = 'i3'")
    result = run("--suite", "item_documents")
    assert result.exit_code == 1
    line = next(line for line in result.stdout.splitlines() if line.startswith("FAILED"))
    assert line.startswith("FAILED item_documents: price_is_valid: true; not so in 1 of 4 rows. A price is")
    assert "    price_is_valid False, item_id i3\n" in result.stdout
    assert "1 rule failed." in result.stdout


def test_json_has_the_stable_shape(environment: Path, warehouse: Path) -> None:
    execute(warehouse, "update embeddings.item_embeddings set vector = [3, 4] where item_id = 'i1'")
    result = run("--suite", "item_embeddings", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["success"] is False
    suite = answer["suites"][0]
    assert (suite["suite"], suite["success"], suite["rows"], suite["warnings"]) == ("item_embeddings", False, 4, [])
    assert suite["failed"] == [
        {
            "expectation": "expect_column_values_to_be_between",
            "column": "norm",
            "observed": "1 of 4 rows",
            "unexpected": 1,
            "examples": [{"norm": 5.0, "item_id": "i1"}],
            "note": "Unit length, so that the dot product is the cosine; a zero vector has no direction.",
        }
    ]


def test_warnings_do_not_fail_and_follow_the_setting(warehouse: Path) -> None:
    # as_of 2025-07-01, newest interaction 2025-06-20: 11 days
    fine = run_suites(warehouse, SUITES, only="as_of", max_age_days=11.0)
    late = run_suites(warehouse, SUITES, only="as_of", max_age_days=10.9)
    assert (fine.success, fine.suites[0].warnings) == (True, [])
    assert late.success
    assert [(finding.column, finding.examples) for finding in late.suites[0].warnings] == [
        ("age_days", [{"age_days": 11.0, "newest": "2025-06-20 00:00:00"}])
    ]


def test_without_as_of_the_clock_of_the_check_counts_where_the_setting_is_set(warehouse: Path) -> None:
    execute(warehouse, "update histories.as_of set as_of = newest")  # 2025-06-20
    assert run_suites(warehouse, SUITES, only="as_of").suites[0].warnings == []
    assert run_suites(warehouse, SUITES, only="as_of", max_age_days=1e6).suites[0].warnings == []
    (finding,) = run_suites(warehouse, SUITES, only="as_of", max_age_days=30.0).suites[0].warnings
    assert finding.column == "age_at_check_days"
    now = datetime.now(UTC).replace(tzinfo=None)
    age = (now - datetime(2025, 6, 20)) / timedelta(days=1)
    assert finding.examples[0]["age_at_check_days"] == pytest.approx(age, abs=0.1)


@pytest.mark.parametrize(("memory", "limit"), [(None, "1.8 GiB"), ("300MB", "286.1 MiB")])
def test_suites_read_with_limited_memory(warehouse: Path, memory: str | None, limit: str) -> None:
    with read(warehouse) as connection:
        measure_suites(connection, SUITES, [], memory=memory)
        assert connection.execute("SELECT current_setting('memory_limit')").fetchone() == (limit,)


def test_tables_of_another_environment_are_checked_separately(warehouse: Path) -> None:
    dev = GOOD
    for layer in LAYERS:
        dev = dev.replace(f"{layer}.", f"{layer}__dev.").replace(f"schema {layer};", f"schema {layer}__dev;")
    execute(warehouse, dev + "delete from search__dev.item_documents")
    assert run_suites(warehouse, SUITES, only="item_documents").success
    assert not run_suites(warehouse, SUITES, "dev", only="item_documents").success


def test_page_script_in_the_catalogue_does_not_run_in_the_page(warehouse: Path, tmp_path: Path) -> None:
    script = "<script>alert(1)</script> & $x ${y}"
    execute(warehouse, f"update search.item_documents set item_id = '{script}', price = -1 where item_id < 'i3'")
    report = run_suites(warehouse, SUITES, only="item_documents", docs=tmp_path)
    assert report.docs is not None
    page = report.docs.read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "$x ${y}" in page
    assert "<script" not in page
    prices = next(finding for finding in report.suites[0].failed if finding.column == "price_is_valid")
    assert prices.examples == [{"price_is_valid": False, "item_id": script}] * 2


def test_control_characters_do_not_reach_the_terminal(environment: Path, warehouse: Path) -> None:
    execute(
        warehouse,
        "update search.item_popularity set item_id = 'a' || chr(27) || '[2J' || chr(10) || 'b' where rank = 4",
    )
    result = run("--suite", "item_popularity")
    assert "item_id a [2J b" in result.stdout
    assert "\x1b" not in result.stdout


def test_the_page_keeps_history_and_shows_dev_beside_prod(warehouse: Path, tmp_path: Path) -> None:
    folder = tmp_path / "quality"
    run_suites(warehouse, SUITES, only="item_documents", docs=folder)
    execute(warehouse, "update search.item_documents set price = -1 where item_id = 'i3'")
    run_suites(warehouse, SUITES, only="item_documents", docs=folder)
    execute(
        warehouse, "create schema search__dev; create table search__dev.item_documents as from search.item_documents"
    )
    execute(warehouse, "update search__dev.item_documents set price = 1; create schema staging__dev")
    execute(warehouse, "create table staging__dev.items as from staging.items")
    report = run_suites(warehouse, SUITES, "dev", only="item_documents", docs=folder)
    assert report.docs is not None
    page = report.docs.read_text("utf-8")
    assert "<strong>prod</strong>: item_documents failed" in page
    assert "<strong>dev</strong>: the suite passed" in page
    assert re.findall(r'<span class="(\w+)" title=', page) == ["passed", "failed"]
    assert "price_is_valid: true" in page
    assert "found 1 of 4 rows" in page


def test_the_page_says_how_many_suites_the_newest_run_checked(warehouse: Path, tmp_path: Path) -> None:
    folder = tmp_path / "quality"
    run_suites(warehouse, SUITES, only="item_documents", docs=folder)
    execute(folder / "checks.duckdb", "update results set checked_at = '2026-01-01'")
    report = run_suites(warehouse, SUITES, only="files", docs=folder)
    assert report.docs is not None
    told = r"all 2 suites passed; 1 of 2 checked [\d :-]+ UTC, the oldest result is of 2026-01-01 00:00 UTC\."
    assert re.search(told, report.docs.read_text("utf-8"))


def test_of_a_long_value_the_beginning_is_shown_and_kept(warehouse: Path, tmp_path: Path) -> None:
    record = "json_object('title', repeat('x', 3000000))"
    execute(warehouse, f"insert into staging.rejected_items select 1, 'i9', null, 'no title', {record}")
    report = run_suites(warehouse, SUITES, only="rejected_values", docs=tmp_path)
    (finding,) = report.suites[0].warnings
    example = str(finding.examples[0]["example"])
    assert (len(example), example[:12], example[-5:]) == (200, '{"title":"xx', "x ...")
    assert (tmp_path / "data_docs" / "index.html").stat().st_size < 100_000


def test_every_rule_of_every_run_is_recorded(environment: Path, warehouse: Path) -> None:
    execute(warehouse, "update search.item_documents set price = -1 where item_id = 'i3'")
    run("--suite", "item_documents")
    with duckdb.connect(environment.parent / "checks.duckdb") as connection:
        counts = connection.execute("select status, count(*) from results group by all order by all").fetchall()
        (failed,) = connection.execute(
            "select demand, observed, origin from results where status = 'failed'"
        ).fetchall()
    assert counts == [("failed", 1), ("passed", 17)]
    assert failed == ("price_is_valid: true", "1 of 4 rows", "check")


def test_a_folder_that_cannot_be_written_leaves_the_verdict(warehouse: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = run_suites(warehouse, SUITES, only="as_of", docs=tmp_path / "file")
    assert (report.success, report.docs) == (True, None)


BROKEN = {
    "text": ("just words", "as_of.yaml"),
    "syntax": ("table: [", "as_of.yaml"),
    "missing": (
        "table: histories.as_of\ndescription: d\nids: [a]\nquery: select 1 as a\n",
        "expectations: Field required",
    ),
    "key": ("{table: t.t, description: d, ids: [a], query: q, expectation: []}", "expectations: Field required"),
    "sql": ("{ids: [a], query: selec from, %s}", "as_of.yaml: the query fails"),
    "macro": ("{ids: [a], query: select lost(1) as a, %s}", "the query fails: Catalog Error: Scalar Function"),
    "column": ("{ids: [as_of], query: select b from histories.as_of, %s}", "as_of.yaml: the query fails"),
    "table": ("{ids: [a], query: select a from search.lost, %s}", "Run `sqlmesh plan`"),
    "measure": ("{ids: [as_of], query: select as_of from histories.as_of, %s}", "expect_column_values_to_be_unique(a)"),
    "severity": ("{ids: [a], query: select 1 as a, %s}".replace("%s", "%s, severity: x"), "severity: Extra inputs"),
}
RULE = "table: t.t, description: d, expectations: [{type: %s, kwargs: {column: a}, meta: {notes: n}}]"


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_suite_is_reported_in_one_line(warehouse: Path, tmp_path: Path, case: str) -> None:
    text, message = BROKEN[case]
    assert_refused(warehouse, tmp_path, text.replace("%s", RULE % "expect_column_values_to_be_unique"), message)


def test_a_suite_that_is_named_runs_beside_a_broken_one(warehouse: Path, tmp_path: Path) -> None:
    suites = shutil.copytree(SUITES, tmp_path / "suites")
    (suites / "event_types.yaml").write_text("tables: [")
    report = run_suites(warehouse, suites, only="as_of", docs=tmp_path / "quality")
    assert [suite.suite for suite in report.suites] == ["as_of"]
    assert report.docs is not None
    assert "6 rules, 1 row<" in report.docs.read_text("utf-8")
    with pytest.raises(UsageError, match=r"event_types\.yaml is not YAML"):
        run_suites(warehouse, suites)


def test_an_unknown_expectation_is_reported_in_one_line(warehouse: Path, tmp_path: Path) -> None:
    text = "{ids: [a], query: select 1 as a, %s}" % (RULE % "expect_miracles")
    assert_refused(warehouse, tmp_path, text, "expect_miracles")


def assert_refused(warehouse: Path, folder: Path, text: str, message: str) -> None:
    suites = folder / "suites"
    suites.mkdir()
    (suites / "as_of.yaml").write_text(text)
    with pytest.raises(UsageError) as error:
        run_suites(warehouse, suites)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("expect_column_to_exist, kwargs: {column: price}", "price: column to exist; found nothing. n"),
        (
            "expect_column_distinct_values_to_equal_set, kwargs: {column: kind, value_set: [a, c]}",
            "kind: column distinct values to equal set a or c; found unexpected b; missing c. n",
        ),
        (
            "expect_table_columns_to_match_set, kwargs: {column_set: [kind]}",
            "the table: table columns to match set; found day, kind. n",
        ),
        (
            "expect_column_values_to_be_in_set, kwargs: {column: kind, value_set: [a]}",
            "kind: a; not so in 1 of 2 rows. n E.g. kind b, day 2025-06-02 00:00:00",
        ),
    ],
)
def test_every_kind_of_rule_is_told_and_recorded(warehouse: Path, tmp_path: Path, rule: str, found: str) -> None:
    days = "select kind, day from (values ('a', date '2025-06-01'), ('b', date '2025-06-02')) as t(kind, day)"
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "own.yaml").write_text(
        f'{{table: t.t, description: d, ids: [day], query: "{days}", '
        f"expectations: [{{type: {rule}, meta: {{notes: n}}}}]}}"
    )
    report = run_suites(warehouse, tmp_path / "suites", docs=tmp_path / "quality")
    assert [str(finding) for finding in report.suites[0].failed] == [found]
    assert report.docs is not None
    observed = found.partition(". n")[0].replace("not so in", "found").partition("; ")[2]
    assert observed in report.docs.read_text("utf-8")
    json.dumps(report.as_json())


def test_unknown_suites_and_missing_tables_are_reported(warehouse: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown suite 'nope': choose one of as_of, event_types"):
        run_suites(warehouse, SUITES, only="nope")
    with pytest.raises(UsageError, match="no expectation suites"):
        run_suites(warehouse, tmp_path)
    with pytest.raises(UsageError, match="Run `sqlmesh plan`"):
        run_suites(warehouse, SUITES, "staging2")
    broken = shutil.copytree(SUITES, tmp_path / "suites")
    (broken / "macros.sql").write_text("create nonsense")
    with pytest.raises(UsageError, match=r"macros\.sql: Parser Error"):
        run_suites(warehouse, broken)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("delete from search.item_documents", "search.item_documents is empty"),
        ("alter table search.user_documents drop column repeats", "search.user_documents has no column repeats"),
    ],
)
def test_a_ranking_that_cannot_be_searched_is_told_as_not_examined(
    environment: Path, warehouse: Path, sql: str, problem: str
) -> None:
    execute(warehouse, sql)
    result = run("--suite", "exposure")
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("warning"))
    assert line.startswith("warning exposure: the ranking: examined; found not examined.")
    assert problem in line
    (exposure,) = json.loads(run("--suite", "exposure", "--json").stdout)["suites"]
    assert (exposure["rows"], exposure["failed"], len(exposure["warnings"])) == (0, [], 1)
    with duckdb.connect(environment.parent / "checks.duckdb") as connection:
        assert connection.execute("select distinct status, observed from results").fetchall() == [
            ("warning", "not examined")
        ]
    assert "found not examined" in (environment / "index.html").read_text("utf-8")


def test_a_column_that_an_edited_model_lacks_is_told_before_a_release_is_made(warehouse: Path) -> None:
    execute(warehouse, "alter table search.user_documents drop column fitted")
    told = r"no column fitted: .* into models/search/user_documents\.\*, see `vlm4rec upgrade --diff`"
    with read(warehouse) as connection, pytest.raises(UsageError, match=told):
        read_search_layer(connection)


def test_a_catalogue_in_another_language_than_its_words_is_told(environment: Path, warehouse: Path) -> None:
    assert "VLM4REC_LANGUAGE" not in run("--suite", "exposure").stderr
    german = "Ein Kleid aus Seide für den Sommer, mit einem Gürtel und Taschen an der Seite. "
    execute(warehouse, f"update search.item_documents set description = repeat('{german}', 9)")
    told = run("--suite", "exposure")
    assert "titles and descriptions look german" in told.stderr
    assert "set VLM4REC_LANGUAGE=german" in told.stderr
