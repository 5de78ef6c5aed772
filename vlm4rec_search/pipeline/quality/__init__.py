"""Expectation suites at the hand-over to search: measure the tables in DuckDB, judge them with Great Expectations."""

from vlm4rec_search.pipeline.quality.report import Finding, QualityReport, SuiteResult
from vlm4rec_search.pipeline.quality.runner import judge, measure_suites, run_suites

__all__ = ["Finding", "QualityReport", "SuiteResult", "judge", "measure_suites", "run_suites"]
