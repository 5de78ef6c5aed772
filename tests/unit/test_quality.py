"""`vlm4rec check` on a real DuckDB file: report, Data Docs, exit codes, and errors in one line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import settings
from vlm4rec_search.pipeline.quality import run_suites

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / "expectations"
GOOD = (ROOT / "tests/fixtures/good_tables.sql").read_text()
LAYERS = ("staging", "histories", "captions", "embeddings", "profiles", "search")


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    execute(path, GOOD)
    return path


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, warehouse: Path) -> Iterator[Path]:
    """Point the settings at the warehouse; yield the folder of the Data Docs."""
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


def test_good_tables_pass_and_data_docs_are_written(environment: Path) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert "All suites passed." in result.stdout
    assert str(environment / "index.html") in result.stdout
    suites = len(list(SUITES.glob("*.yaml")))
    assert f"{suites}/{suites}" in result.stderr
    pages = {path.stem for path in (environment / "expectations").glob("*.html")}
    assert pages == {path.stem for path in SUITES.glob("*.yaml")}


def test_a_failure_is_reported_and_exits_with_1(environment: Path, warehouse: Path) -> None:
    execute(warehouse, "update search.item_documents set price = -1 where item_id = 'i3'")
    result = run("--suite", "item_documents")
    assert result.exit_code == 1
    line = next(line for line in result.stdout.splitlines() if line.startswith("FAILED"))
    assert line.startswith("FAILED item_documents: price_is_valid: 1 of 4 rows")
    assert "E.g. price_is_valid=False item_id=i3" in line
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


def test_tables_of_another_environment_are_checked_separately(warehouse: Path) -> None:
    dev = GOOD
    for layer in LAYERS:
        dev = dev.replace(f"{layer}.", f"{layer}__dev.").replace(f"schema {layer};", f"schema {layer}__dev;")
    execute(warehouse, dev + "delete from search__dev.item_documents")
    assert run_suites(warehouse, SUITES, only="item_documents").success
    assert not run_suites(warehouse, SUITES, "dev", only="item_documents").success


def test_page_script_in_the_catalogue_does_not_run_in_the_data_docs(warehouse: Path, tmp_path: Path) -> None:
    script = "<script>alert(1)</script> & $x ${y}"
    execute(warehouse, f"update search.item_documents set item_id = '{script}', price = -1 where item_id < 'i3'")
    report = run_suites(warehouse, SUITES, only="item_documents", docs=tmp_path)
    pages = [path.read_text() for path in (tmp_path / "data_docs" / "validations").rglob("*.html")]
    assert len(pages) == 1
    assert "alert(1)" in pages[0]
    assert "$x ${y}" in pages[0]
    assert "<script>alert(1)" not in pages[0]
    prices = next(finding for finding in report.suites[0].failed if finding.column == "price_is_valid")
    assert prices.examples == [{"price_is_valid": False, "item_id": script}] * 2


def test_control_characters_do_not_reach_the_terminal(environment: Path, warehouse: Path) -> None:
    execute(
        warehouse,
        "update search.item_popularity set item_id = 'a' || chr(27) || '[2J' || chr(10) || 'b' where rank = 4",
    )
    result = run("--suite", "item_popularity")
    assert "item_id=a [2J b" in result.stdout
    assert "\x1b" not in result.stdout


def test_data_docs_replace_those_of_the_last_check_and_nothing_else(warehouse: Path, tmp_path: Path) -> None:
    folder = tmp_path / "quality"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for _ in range(2):
        report = run_suites(warehouse, SUITES, only="as_of", docs=folder)
    assert report.docs == folder / "data_docs" / "index.html"
    assert len(list((folder / "data_docs" / "validations").rglob("*.html"))) == 1
    assert (folder / "notes.txt").read_text() == "mine"


BROKEN = {
    "text": ("just words", "as_of.yaml"),
    "syntax": ("table: [", "as_of.yaml"),
    "missing": (
        "table: histories.as_of\ndescription: d\nids: [a]\nquery: select 1 as a\n",
        "expectations: Field required",
    ),
    "key": ("{table: t.t, description: d, ids: [a], query: q, expectation: []}", "expectations: Field required"),
    "sql": ("{ids: [a], query: selec from, %s}", "as_of.yaml: the query fails"),
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


def test_unknown_suites_and_missing_tables_are_reported(warehouse: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown suite 'nope': choose one of as_of, exposure, image_embeddings"):
        run_suites(warehouse, SUITES, only="nope")
    with pytest.raises(UsageError, match="no expectation suites"):
        run_suites(warehouse, tmp_path)
    with pytest.raises(UsageError, match="Run `sqlmesh plan`"):
        run_suites(warehouse, SUITES, "staging2")
    broken = shutil.copytree(SUITES, tmp_path / "suites")
    (broken / "macros.sql").write_text("create nonsense")
    with pytest.raises(UsageError, match=r"macros\.sql: Parser Error"):
        run_suites(warehouse, broken)
