"""Run expectation suites with Great Expectations and write its Data Docs."""

import html
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.pipeline.quality.report import Example, Finding, QualityReport, SuiteResult, Value
from vlm4rec_search.pipeline.quality.suites import Suite, define_macros, load_suites, measure

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.data_context import AbstractDataContext
    from pandas import DataFrame

Parameters = Mapping[str, float]
Measured: TypeAlias = "tuple[Suite, DataFrame]"
EXAMPLES = 5
SITE = "data_docs"


def run_suites(
    warehouse: Path,
    expectations: Path,
    environment: str = "prod",
    *,
    max_age_days: float = 30.0,
    docs: Path | None = None,
    only: str | None = None,
) -> QualityReport:
    """Measure the tables of an environment and judge them by the suites of a folder.

    The warehouse is open only while the queries run. `max_age_days` (days) is the parameter of that name in the
    suites. `docs` is the folder that gets the Data Docs, in a folder `data_docs` that is replaced; None writes none.
    `only` picks one suite by name.

    Raises:
        UsageError: no warehouse, a table that no plan has built, an unknown suite, or a broken suite file.
        RunError: another process writes the warehouse.
    """
    with read(warehouse) as connection:
        measured = measure_suites(connection, expectations, environment, only)
    return judge(measured, {"max_age_days": max_age_days}, docs)


def measure_suites(
    connection: "DuckDBPyConnection", expectations: Path, environment: str = "prod", only: str | None = None
) -> list[Measured]:
    """Return each suite of a folder with the rows that its query measures in the tables; see `run_suites`."""
    suites = load_suites(expectations, only)
    define_macros(connection, expectations)
    return [(suite, measure(connection, suite, environment)) for suite in suites]


def judge(measured: Sequence[Measured], parameters: Parameters, docs: Path | None = None) -> QualityReport:
    """Judge measured frames by their suites, write the Data Docs below `docs`, and show progress.

    Raises:
        UsageError: an expectation that Great Expectations does not know, or that asks for a column not measured.
    """
    site = docs / SITE if docs else None
    print("Loading Great Expectations (about 5 s) ...", file=sys.stderr, flush=True)
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
    context: "AbstractDataContext", suite: Suite, frame: "DataFrame", parameters: Parameters
) -> "ExpectationSuiteValidationResult":
    import great_expectations as gx
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    try:
        # Built one by one: a suite made of configurations would leave out, with a log line only, what it does not know.
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
        raise UsageError(f"{suite.file}: {' '.join(str(error).split())}") from None


def _escaped(frame: "DataFrame") -> "DataFrame":
    """Escape text for HTML: the Data Docs show examples as they are, and a catalogue may contain page script."""
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
    """Raise when a rule could not be evaluated: that is a mistake in the suite, not a finding about the data."""
    info = entry.exception_info or {}
    errors = [info] if "raised_exception" in info else list(info.values())
    for error in errors:
        if error.get("raised_exception"):
            rule = entry.expectation_config
            message = " ".join(str(error.get("exception_message")).split())
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
    """Turn a value of a frame into one that JSON knows, and text back into what the table holds."""
    from pandas import isna

    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        return html.unescape(value)
    if isna(value):
        return None
    return str(value) if value in (math.inf, -math.inf) else value


def _write_docs(context: "AbstractDataContext", site: Path) -> Path | None:
    """Write the pages and return the first; a folder that cannot be written must not cost the verdict."""
    try:
        if site.exists():
            shutil.rmtree(site)  # pages of earlier checks would stay, in no index
        with redirect_stdout(sys.stderr):
            context.build_data_docs()
    except OSError as error:
        print(f"The Data Docs cannot be written to {site}: {error.strerror or error}", file=sys.stderr)
        return None
    return site / "index.html"
