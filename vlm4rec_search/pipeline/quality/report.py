"""What a check found, for people and for programs."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = str | int | float | bool | None
Example: TypeAlias = dict[str, Value]


@dataclass(frozen=True)
class Finding:
    """One expectation that the table does not meet.

    `column` is a column of the suite's query, or None for a rule about the whole table; `observed` is what was
    measured; `unexpected` counts the rows that break the rule, None where rows cannot be counted; `examples` are a
    few of these rows; `note` is the reason for the rule.
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
    """The answer of one suite; `rows` are those of its query, `rules` the number of its expectations."""

    suite: str
    table: str
    rows: int
    rules: int
    failed: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """True when no critical expectation failed; warnings do not count."""
        return not self.failed


@dataclass(frozen=True)
class QualityReport:
    """The answers of all suites, and where the Data Docs are (`index.html`), if they were written."""

    suites: list[SuiteResult]
    docs: Path | None = None

    @property
    def success(self) -> bool:
        """True when every suite succeeded."""
        return all(suite.success for suite in self.suites)

    def as_json(self) -> dict[str, object]:
        """Return the stable shape of `vlm4rec check --json`."""
        suites = [{**asdict(suite), "success": suite.success} for suite in self.suites]
        return {"success": self.success, "suites": suites, "docs": str(self.docs) if self.docs else None}
