"""Run expectation suites with Great Expectations, record the results, and write the page about them."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from duckdb import DuckDBPyConnection

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError, one_line
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.text_forms import shorten
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.indexes.search_layer import SearchLayer, read_search_layer
from vlm4rec_search.pipeline.catalogue_language import find_other_language
from vlm4rec_search.pipeline.exposure import measure_tables
from vlm4rec_search.pipeline.quality.history import record_check
from vlm4rec_search.pipeline.quality.page import write_quality_page
from vlm4rec_search.pipeline.quality.report import Example, Finding, QualityReport, SuiteResult, Value
from vlm4rec_search.pipeline.quality.suites import (
    EXPOSURE,
    FINITE,
    Expectation,
    Meta,
    Suite,
    define_macros,
    load_suites,
    measure,
    suite_names,
)
from vlm4rec_search.search.exposure import Exposure
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.data_context import AbstractDataContext

logger = logging.getLogger(__name__)

Parameters = Mapping[str, float]
Measured: TypeAlias = tuple[Suite, pd.DataFrame]
EXAMPLES = 5
MAX_AGE_DAYS = 30.0  # of the latest interaction at as_of, where no setting says another age
FEW = 5  # so many rows, and less than half of those judged, break a share (`mostly`) in a small table only: they warn
_WORDS = {  # of the rules that the suites use
    "expect_column_values_to_be_between": "",
    "expect_column_unique_value_count_to_be_between": "",
    "expect_table_row_count_to_be_between": "",
    "expect_column_values_to_be_in_set": "",
    "expect_column_values_to_be_unique": "no value twice",
    "expect_column_values_to_not_be_null": "never empty",
}
_LIMITS = {"min_value": "from", "max_value": "up to"}
_MEMORY = "2GB"  # of DuckDB unless a setting says otherwise; it keeps every page that it has read


def run_suites(
    warehouse: Path,
    expectations: Path,
    environment: str = "prod",
    max_age_days: float | None = None,
    docs: Path | None = None,
    only: str | None = None,
    ranking: Ranking | None = None,
    rules: Sequence[Rule] = (),
    memory: str | None = None,
) -> QualityReport:
    """Measure the tables of an environment, and what a ranking shows of them, and judge both by the suites of a folder.

    The warehouse is open only while the queries run.

    Args:
        warehouse: the DuckDB file.
        expectations: folder of the suites.
        environment: of SQLMesh.
        max_age_days: see `judge`.
        docs: folder of the history of checks, and of the page about it; None writes neither.
        only: name of the only suite to run.
        ranking, rules: that answer, see `Searcher`.
        memory: see `measure_suites`.

    Raises:
        UsageError: there is no warehouse, no plan has built a table, the suite is unknown, or a file that is
            run is invalid.
        RunError: another process is writing the warehouse.
    """
    chosen = load_suites(expectations, only)
    about_ranking = [suite for suite in chosen if suite.table == EXPOSURE]
    with read(warehouse) as connection:
        measured = measure_suites(connection, expectations, chosen, environment, memory)
        layer: SearchLayer | str
        try:
            layer = read_search_layer(connection, environment) if about_ranking else "no suite is about it"
        except UsageError as error:  # there are no documents
            layer = str(error)
    found = _exposure_or_reason(layer, ranking, rules)
    if isinstance(found, Exposure):
        measured += _measure_ranking(about_ranking, found)
    results = judge(measured, max_age_days).suites
    if isinstance(found, str):
        results += [_unexamined(suite, found) for suite in about_ranking]
    report = QualityReport(sorted(results, key=lambda result: result.suite))
    if docs is None:
        return report
    return replace(report, docs=_write_docs(docs, report, environment, suite_names(expectations)))


def measure_suites(
    connection: DuckDBPyConnection,
    expectations: Path,
    suites: Sequence[Suite],
    environment: str = "prod",
    memory: str | None = None,
) -> list[Measured]:
    """Return each suite about tables with the result of its query; `expectations` is their folder, see `run_suites`.

    Suites about the ranking are left out: they need a release, and only warn. The memory of the connection is limited
    from now on: `memory` such as 8GB, None is 2GB.
    """
    connection.execute(f"SET memory_limit = '{memory or _MEMORY}'")
    define_macros(connection, expectations)
    return [(suite, measure(connection, suite, environment)) for suite in suites if suite.table != EXPOSURE]


def _exposure_or_reason(layer: SearchLayer | str, ranking: Ranking | None, rules: Sequence[Rule]) -> Exposure | str:
    """Return what a ranking shows of the search layer, or why nothing can be said of it."""
    if isinstance(layer, str):
        return layer
    if other := find_other_language(layer.tables, layer.analyzer):
        logger.warning("%s", other)
    try:
        return measure_tables(layer, ranking, rules)
    except Vlm4recError as error:
        return str(error)


def _measure_ranking(suites: Sequence[Suite], exposure: Exposure) -> list[Measured]:
    """Return the suites about the ranking with the results of their queries on what the ranking shows."""
    with duckdb.connect() as connection:
        connection.register("exposure", pa.Table.from_pylist([exposure.to_json()]))
        return [(suite, measure(connection, suite)) for suite in suites]


def _unexamined(suite: Suite, problem: str) -> SuiteResult:
    """Return the result of a suite about a ranking that cannot be searched: none of its rules is judged."""
    warning = Finding(
        expectation="expect_ranking_to_be_examined",
        column=None,
        observed="not examined",
        unexpected=None,
        examples=[],
        note=problem,
        demand="the ranking: examined",
    )
    rules = len(suite.expectations)
    return SuiteResult(suite.name, suite.table, 0, rules, warnings=[warning], description=suite.description)


def judge(measured: Sequence[Measured], max_age_days: float | None = None) -> QualityReport:
    """Judge the results of the queries by their suites.

    Args:
        measured: suites and the results of their queries.
        max_age_days: age of the latest interaction in days up to which nothing warns, both at as_of and, where as_of is
            the latest interaction, at the check; None takes 30 at as_of and no limit at the check.

    Raises:
        UsageError: Great Expectations does not know an expectation, or the query lacks a column that one needs.
    """
    logger.info("Loading Great Expectations (about 5 s) ...")
    parameters = {
        "max_age_days": MAX_AGE_DAYS if max_age_days is None else max_age_days,
        "max_age_at_check_days": math.inf if max_age_days is None else max_age_days,
    }
    context = _context()
    results = []
    with bar("suites", len(measured)) as advance:
        for suite, frame in measured:
            results.append(_summary(suite, len(frame), _validate(context, suite, frame, parameters)))
            advance(1)
    return QualityReport(results)


def _context() -> "AbstractDataContext":
    """Build a context that lives in memory, sends no usage statistics and draws no progress bars of its own."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={},
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _validate(
    context: "AbstractDataContext", suite: Suite, frame: pd.DataFrame, parameters: Parameters
) -> "ExpectationSuiteValidationResult":
    import great_expectations as gx
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    try:
        # One by one: a suite built from configurations leaves unknown expectations out, with no more than a log line.
        expectations = [*suite.expectations, *_finite_rules(suite, frame)]
        rules = [ExpectationConfiguration(**rule.model_dump()).to_domain_obj() for rule in expectations]
        source = context.data_sources.add_or_update_pandas("warehouse")
        data = source.add_dataframe_asset(suite.table).add_batch_definition_whole_dataframe(suite.name)
        rule_set = gx.ExpectationSuite(name=suite.name, expectations=rules, meta={"notes": suite.description})
        definition = gx.ValidationDefinition(name=suite.name, data=data, suite=context.suites.add(rule_set))
        return context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": frame},
            expectation_parameters=dict(parameters),
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": suite.ids,
                "partial_unexpected_count": EXAMPLES,
            },
        )
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise UsageError(f"{suite.file}: {one_line(error)}") from None


def _finite_rules(suite: Suite, frame: pd.DataFrame) -> Iterator[Expectation]:
    """Yield a rule for each column with a number that is NaN or infinite, as severe as the rules about the column."""
    notes = "NaN and infinity are no measurements, and hide whether the other rules about them hold."
    for column in frame.columns:
        of = column.removesuffix(FINITE)
        severities = [rule.severity for rule in suite.expectations if rule.kwargs.get("column") == of]
        if of != column and severities:
            yield Expectation(
                type="expect_column_values_to_be_in_set",
                kwargs={"column": column, "value_set": [True]},
                severity="critical" if "critical" in severities else "warning",
                meta=Meta(notes=notes),
            )


def _summary(suite: Suite, rows: int, result: "ExpectationSuiteValidationResult") -> SuiteResult:
    failed: list[Finding] = []
    warnings: list[Finding] = []
    passed: list[Finding] = []
    for entry in result.results:
        _refuse_exception(suite, entry)
        finding = _finding(entry)
        rule = entry.expectation_config
        is_share = rule.kwargs.get("mostly", 1.0) < 1.0
        broken = finding.unexpected or 0
        is_few = is_share and 0 < broken <= FEW and broken < (_judged_rows(entry.result) or 0) / 2
        is_warning = rule.severity == "warning" or is_few
        (passed if entry.success else warnings if is_warning else failed).append(finding)
    rules = len(result.results)
    return SuiteResult(suite.name, suite.table, rows, rules, failed, warnings, passed, suite.description)


def _refuse_exception(suite: Suite, entry: "ExpectationValidationResult") -> None:
    """Raise when a rule could not be evaluated, which is a mistake in the suite and not a finding about the data."""
    info = entry.exception_info or {}
    errors = [info] if "raised_exception" in info else list(info.values())
    for error in errors:
        if error.get("raised_exception"):
            rule = entry.expectation_config
            message = one_line(error.get("exception_message"))
            raise UsageError(f"{suite.file}: {rule.type}({rule.kwargs.get('column', '')}): {message}")


def _finding(entry: "ExpectationValidationResult") -> Finding:
    rule, result = entry.expectation_config, entry.result
    rows = _judged_rows(result)
    unexpected = None if rows is None else result.get("unexpected_count")
    observed = _observed(result) if unexpected is None else f"{unexpected} of {rows} rows"
    examples = result.get("partial_unexpected_index_list") or []
    return Finding(
        expectation=rule.type,
        column=rule.kwargs.get("column"),
        observed=observed,
        unexpected=unexpected,
        examples=[_example(row) for row in examples[:EXAMPLES]],
        note=rule.meta["notes"],
        demand=_demand(rule.type, rule.kwargs),
    )


def _judged_rows(result: Mapping[str, Any]) -> int | None:
    """Return the number of rows to which a rule applies; None of a rule about the whole column or table."""
    rows: int | None = result.get("element_count")
    return None if rows is None else rows - (result.get("missing_count") or 0)


def _observed(result: Mapping[str, Any]) -> Value:
    """Return what a rule about a whole column or table found: a value, or the values that are too many or missing."""
    if result.get("observed_value") is not None:
        return _plain(result["observed_value"])
    values = {name: result.get(f"partial_{name}_list") for name in ("unexpected", "missing")}
    return "; ".join(f"{name} {_plain(some)}" for name, some in values.items() if some) or None


def _demand(kind: str, rule: Mapping[str, Any]) -> str:
    """Say in words what a rule demands."""
    subject = rule.get("column") or ("number of rows" if "row_count" in kind else "the table")
    if kind == "expect_column_unique_value_count_to_be_between":
        subject = f"different values of {subject}"
    words = [_WORDS.get(kind, kind.removeprefix("expect_").replace("_", " "))]
    words += [f"{name} {_limit(rule[key])}" for key, name in _LIMITS.items() if rule.get(key) is not None]
    if values := rule.get("value_set"):
        few = " or ".join(str(value).lower() for value in values)
        words.append(few if len(values) < 3 else f"{len(values)} values")
    if (share := rule.get("mostly", 1.0)) < 1.0:
        words.append(f"in at least {share:.0%} of the rows to which it applies")
    return f"{subject}: {' '.join(filter(None, words))}"


def _limit(value: object) -> str:
    """Return a limit as text; a parameter of the suites has its name."""
    return str(value["$PARAMETER"]) if isinstance(value, dict) else str(value)


def _example(row: Mapping[str, Any]) -> Example:
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Value:
    """Turn a value of a frame into one that JSON knows; of a long text, such as a whole record, the beginning."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, list | tuple):
        return shorten(", ".join(str(_plain(one)) for one in value))
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return shorten(str(value))


def _write_docs(folder: Path, report: QualityReport, environment: str, suites: Sequence[str]) -> Path | None:
    """Record the report and write the page, and return it; None if that fails: the verdict counts without it."""
    try:
        record_check(folder, report, environment, "check")
        return write_quality_page(folder, suites)
    except (OSError, RunError) as error:
        logger.warning("The page about the checks cannot be written to %s: %s", folder, error)
        return None
