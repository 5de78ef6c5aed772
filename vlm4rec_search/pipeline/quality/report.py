"""The report of a check, for people and for programs."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = str | int | float | bool | None
Example: TypeAlias = dict[str, Value]


@dataclass(frozen=True)
class Finding:
    """What one expectation found.

    Attributes:
        expectation: type of the rule.
        column: of the suite's query; None for a rule about the whole table.
        observed: the measured value; None where there is none.
        unexpected: number of rows that break the rule; None where rows cannot be counted.
        examples: a few of these rows.
        note: the reason for the rule.
        demand: the rule in words, such as "price: from 0".
    """

    expectation: str
    column: str | None
    observed: Value
    unexpected: int | None
    examples: list[Example]
    note: str
    demand: str = ""

    def __str__(self) -> str:
        examples = f" E.g. {'; '.join(self.example_lines)}" if self.examples else ""
        return f"{self.summary}{examples}"

    @property
    def summary(self) -> str:
        """The rule, what was found, and the reason for the rule, in one line."""
        if self.unexpected is not None:
            found = f"not so in {self.observed}"
        else:
            found = f"found {'nothing' if self.observed is None else _text(self.observed)}"
        return f"{self.demand or self.expectation}; {found}. {self.note}"

    @property
    def example_lines(self) -> list[str]:
        """A line for each of the rows."""
        return [
            ", ".join(f"{key} {_text(value)}" for key, value in row.items() if value is not None)
            for row in self.examples
        ]


def _text(value: Value) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1.0 else f"{value:.10g}"  # of a share few digits, of a price all


@dataclass(frozen=True)
class SuiteResult:
    """The result of one suite; `rows` counts the rows of its query, `rules` its expectations.

    Each expectation is in `failed` (critical), `warnings` or `passed`. Of a suite about a ranking that cannot be
    searched, none is: one warning says why.
    """

    suite: str
    table: str
    rows: int
    rules: int
    failed: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    passed: list[Finding] = field(default_factory=list)
    description: str = ""

    @property
    def success(self) -> bool:
        """Whether no critical expectation failed; warnings do not count."""
        return not self.failed


@dataclass(frozen=True)
class QualityReport:
    """The results of all suites, and the page about them if it was written."""

    suites: list[SuiteResult]
    docs: Path | None = None

    @property
    def success(self) -> bool:
        """Whether every suite succeeded."""
        return all(suite.success for suite in self.suites)

    def as_json(self) -> dict[str, object]:
        """Return the stable shape of `vlm4rec check --json`."""
        suites = [_suite_json(suite) for suite in self.suites]
        return {"success": self.success, "suites": suites, "docs": str(self.docs) if self.docs else None}


def _suite_json(suite: SuiteResult) -> dict[str, object]:
    names = ("suite", "table", "rows", "rules")
    findings = {name: [_finding_json(one) for one in getattr(suite, name)] for name in ("failed", "warnings")}
    return {**{name: getattr(suite, name) for name in names}, **findings, "success": suite.success}


def _finding_json(finding: Finding) -> dict[str, object]:
    return {name: value for name, value in asdict(finding).items() if name != "demand"}
