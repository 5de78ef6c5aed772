"""The report of a check, for people and for programs."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = str | int | float | bool | None
Example: TypeAlias = dict[str, Value]


@dataclass(frozen=True)
class Finding:
    """One expectation that the table does not meet.

    Attributes:
        expectation: type of the rule.
        column: of the suite's query; None for a rule about the whole table.
        observed: the measured value.
        unexpected: number of rows that break the rule; None where rows cannot be counted.
        examples: a few of these rows.
        note: the reason for the rule.
    """

    expectation: str
    column: str | None
    observed: Value
    unexpected: int | None
    examples: list[Example]
    note: str

    def __str__(self) -> str:
        rows = (" ".join(f"{key}={value}" for key, value in row.items() if value is not None) for row in self.examples)
        where = f"{self.column}: " if self.column else ""
        examples = f" E.g. {', '.join(rows)}" if self.examples else ""
        return f"{where}{self.observed} ({self.expectation}). {self.note}{examples}"


@dataclass(frozen=True)
class SuiteResult:
    """The result of one suite; `rows` counts the rows of its query, `rules` its expectations."""

    suite: str
    table: str
    rows: int
    rules: int
    failed: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether no critical expectation failed; warnings do not count."""
        return not self.failed


@dataclass(frozen=True)
class QualityReport:
    """The results of all suites, and the first page of the Data Docs if they were written."""

    suites: list[SuiteResult]
    docs: Path | None = None

    @property
    def success(self) -> bool:
        """Whether every suite succeeded."""
        return all(suite.success for suite in self.suites)

    def as_json(self) -> dict[str, object]:
        """Return the stable shape of `vlm4rec check --json`."""
        suites = [{**asdict(suite), "success": suite.success} for suite in self.suites]
        return {"success": self.success, "suites": suites, "docs": str(self.docs) if self.docs else None}
