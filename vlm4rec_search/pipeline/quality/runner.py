"""Run expectation suites with Great Expectations and write its Data Docs."""

import html
import logging
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb
import pandas as pd
import pyarrow as pa
from duckdb import DuckDBPyConnection

from vlm4rec_search.common.errors import UsageError, Vlm4recError, one_line
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.indexes.search_layer import SearchLayer, read_search_layer
from vlm4rec_search.pipeline.exposure import measure_tables
from vlm4rec_search.pipeline.quality.report import Example, Finding, QualityReport, SuiteResult, Value
from vlm4rec_search.pipeline.quality.suites import EXPOSURE, Suite, define_macros, load_suites, measure
from vlm4rec_search.search.exposure import NOTHING
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.data_context import AbstractDataContext

logger = logging.getLogger(__name__)

Parameters = Mapping[str, float]
Measured: TypeAlias = tuple[Suite, pd.DataFrame]
EXAMPLES = 5
SITE = "data_docs"


def run_suites(
    warehouse: Path,
    expectations: Path,
    environment: str = "prod",
    max_age_days: float = 30.0,
    docs: Path | None = None,
    only: str | None = None,
    ranking: Ranking | None = None,
    rules: Sequence[Rule] = (),
) -> QualityReport:
    """Measure the tables of an environment, and what a ranking shows of them, and judge both by the suites of a folder.

    The warehouse is open only while the queries run.

    Args:
        warehouse: the DuckDB file.
        expectations: folder of the suites.
        environment: of SQLMesh.
        max_age_days: parameter of that name in the suites, in days.
        docs: folder in which `data_docs` is replaced by new Data Docs; None writes none.
        only: name of the only suite to run.
        ranking, rules: that answer, see `Searcher`.

    Raises:
        UsageError: there is no warehouse, no plan has built a table, a suite is unknown, or a suite file is invalid.
        RunError: another process is writing the warehouse.
    """
    about_ranking = [suite for suite in load_suites(expectations, only) if suite.table == EXPOSURE]
    search_layer = None
    with read(warehouse) as connection:
        measured = measure_suites(connection, expectations, environment, only)
        if about_ranking:
            with suppress(UsageError):  # there are no documents, which another suite tells
                search_layer = read_search_layer(connection, environment)
    measured += _measure_ranking(about_ranking, search_layer, ranking, rules)
    return judge(sorted(measured, key=lambda pair: pair[0].name), {"max_age_days": max_age_days}, docs)


def measure_suites(
    connection: DuckDBPyConnection, expectations: Path, environment: str = "prod", only: str | None = None
) -> list[Measured]:
    """Return each suite of a folder about tables with the result of its query; see `run_suites`.

    Suites about the ranking are left out: they need a release, and only warn.
    """
    suites = [suite for suite in load_suites(expectations, only) if suite.table != EXPOSURE]
    define_macros(connection, expectations)
    return [(suite, measure(connection, suite, environment)) for suite in suites]


def _measure_ranking(
    suites: Sequence[Suite], search_layer: SearchLayer | None, ranking: Ranking | None, rules: Sequence[Rule]
) -> list[Measured]:
    """Return the suites about the ranking with the results of their queries on what the ranking shows."""
    exposure = NOTHING
    if search_layer is not None:
        try:
            exposure = measure_tables(search_layer, ranking, rules)
        except Vlm4recError as error:
            logger.warning("The ranking is not examined: %s", error)
    with duckdb.connect() as connection:
        connection.register("exposure", pa.Table.from_pylist([exposure.to_json()]))
        return [(suite, measure(connection, suite)) for suite in suites]


def judge(measured: Sequence[Measured], parameters: Parameters, docs: Path | None = None) -> QualityReport:
    """Judge the results of the queries by their suites, and write the Data Docs below `docs`.

    Raises:
        UsageError: Great Expectations does not know an expectation, or the query lacks a column that one needs.
    """
    site = docs / SITE if docs else None
    logger.info("Loading Great Expectations (about 5 s) ...")
    context = _context(site)
    results = []
    with bar("suites", len(measured)) as advance:
        for suite, frame in measured:
            results.append(_summary(suite, len(frame), _validate(context, suite, frame, parameters)))
            advance(1)
    return QualityReport(results, _write_docs(context, site) if site else None)


def _context(site: Path | None) -> "AbstractDataContext":
    """Build a context that lives in memory, sends no usage statistics and draws no progress bars of its own."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site.resolve())} if site else None
    builders = {"class_name": "SiteBuilder", "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}}
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={"checks": {**builders, "store_backend": backend}} if backend else {},
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
        rules = [ExpectationConfiguration(**rule.model_dump()).to_domain_obj() for rule in suite.expectations]
        source = context.data_sources.add_or_update_pandas("warehouse")
        data = source.add_dataframe_asset(suite.table).add_batch_definition_whole_dataframe(suite.name)
        rule_set = gx.ExpectationSuite(name=suite.name, expectations=rules, meta={"notes": suite.description})
        definition = gx.ValidationDefinition(name=suite.name, data=data, suite=context.suites.add(rule_set))
        return context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": _escaped(frame)},
            expectation_parameters=dict(parameters),
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": suite.ids,
                "partial_unexpected_count": EXAMPLES,
            },
        )
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise UsageError(f"{suite.file}: {one_line(error)}") from None


def _escaped(frame: pd.DataFrame) -> pd.DataFrame:
    """Escape text for HTML: the Data Docs show examples unchanged, and a catalogue may contain scripts."""
    texts = frame.select_dtypes("object")
    return frame.assign(**{str(name): texts[name].map(_escape) for name in texts})


def _escape(value: object) -> object:
    return html.escape(value) if isinstance(value, str) else value


def _summary(suite: Suite, rows: int, result: "ExpectationSuiteValidationResult") -> SuiteResult:
    failed: list[Finding] = []
    warnings: list[Finding] = []
    for entry in result.results:
        _refuse_exception(suite, entry)
        if not entry.success:
            (warnings if entry.expectation_config.severity == "warning" else failed).append(_finding(entry))
    return SuiteResult(suite.name, suite.table, rows, len(suite.expectations), failed, warnings)


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
    unexpected = result.get("unexpected_count")
    observed = f"{unexpected} of {result['element_count']} rows" if unexpected is not None else result["observed_value"]
    examples = result.get("partial_unexpected_index_list") or []
    return Finding(
        expectation=rule.type,
        column=rule.kwargs.get("column"),
        observed=_plain(observed),
        unexpected=unexpected,
        examples=[_example(row) for row in examples[:EXAMPLES]],
        note=rule.meta["notes"],
    )


def _example(row: Mapping[str, Any]) -> Example:
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Value:
    """Turn a value of a frame into one that JSON knows, and escaped text into the original text."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        return html.unescape(value)
    if pd.isna(value):
        return None
    return str(value) if value in (math.inf, -math.inf) else value


def _write_docs(context: "AbstractDataContext", site: Path) -> Path | None:
    """Write the pages and return the first one, None if the folder cannot be written: the verdict counts without it."""
    try:
        if site.exists():
            shutil.rmtree(site)  # pages of earlier checks would stay without a link to them
        with redirect_stdout(sys.stderr):
            context.build_data_docs()
    except OSError as error:
        logger.warning("The Data Docs cannot be written to %s: %s", site, error.strerror or error)
        return None
    return site / "index.html"
