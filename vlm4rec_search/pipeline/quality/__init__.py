"""Expectation suites for the search layer: DuckDB measures the tables, Great Expectations judges the measurements."""

from vlm4rec_search.pipeline.quality.report import Finding, QualityReport, SuiteResult
from vlm4rec_search.pipeline.quality.runner import judge, measure_suites, run_suites

__all__ = ["Finding", "QualityReport", "SuiteResult", "judge", "measure_suites", "run_suites"]
