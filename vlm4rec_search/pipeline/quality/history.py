"""The history of the checks: the result of every rule in every run, in a DuckDB file."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from vlm4rec_search.common.records import append_rows
from vlm4rec_search.pipeline.quality.report import Finding, QualityReport, SuiteResult

FILE = "checks.duckdb"
CREATE = """
CREATE TABLE IF NOT EXISTS results (
    run VARCHAR, checked_at TIMESTAMP, origin VARCHAR, environment VARCHAR, suite VARCHAR, description VARCHAR,
    table_name VARCHAR, row_count BIGINT, expectation VARCHAR, column_name VARCHAR, demand VARCHAR, status VARCHAR,
    observed VARCHAR, unexpected BIGINT, examples JSON, note VARCHAR);
"""


def record_check(folder: Path, report: QualityReport, environment: str, origin: str) -> None:
    """Add the result of every rule of a report to `FILE` of a folder.

    Args:
        folder: of the results of checks, created where it is missing.
        report: of one run.
        environment: whose tables were checked.
        origin: the command, check or index.

    Raises:
        RunError: the folder or the file cannot be written.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    run = {"run": f"{now:%Y%m%dT%H%M%S.%fZ}", "checked_at": now, "origin": origin, "environment": environment}
    rows: list[dict[str, object]] = [{**run, **row} for suite in report.suites for row in _rows(suite)]
    append_rows(folder / FILE, CREATE, {"results": rows}, "VLM4REC_QUALITY")


def _rows(suite: SuiteResult) -> Iterator[dict[str, object]]:
    about = {
        "suite": suite.suite,
        "description": suite.description,
        "table_name": suite.table,
        "row_count": suite.rows,
    }
    for status, findings in (("failed", suite.failed), ("warning", suite.warnings), ("passed", suite.passed)):
        for finding in findings:
            yield {**about, "status": status, **_row(finding)}


def _row(finding: Finding) -> dict[str, object]:
    return {
        "expectation": finding.expectation,
        "column_name": finding.column,
        "demand": finding.demand,
        "observed": None if finding.observed is None else str(finding.observed),
        "unexpected": finding.unexpected,
        "examples": json.dumps(finding.examples, ensure_ascii=False),
        "note": finding.note,
    }
