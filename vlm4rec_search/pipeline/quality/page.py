"""The page about the checks: the newest result of every rule in each environment, and the history of the suites."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import RunError, first_line
from vlm4rec_search.common.pages import write_page
from vlm4rec_search.pipeline.quality.history import FILE
from vlm4rec_search.pipeline.quality.report import Example

PAGE = Path("data_docs", "index.html")
_SHOWN = 20  # runs of the history of a suite
_WORST_FIRST = ("failed", "warning", "passed")
_NEWEST = """
SELECT suite, table_name, description, environment, row_count, STRFTIME(checked_at, '%Y-%m-%d %H:%M UTC'),
    demand, note, status, observed, examples
FROM results
WHERE suite IN (SELECT UNNEST(?))
QUALIFY run = MAX(run) OVER (PARTITION BY environment, suite)
ORDER BY suite, environment <> 'prod', environment, rowid
"""
_HISTORY = """
SELECT suite, STRFTIME(checked_at, '%Y-%m-%d %H:%M UTC'), LIST(status)
FROM results
WHERE environment = ?
GROUP BY suite, run, checked_at
QUALIFY ROW_NUMBER() OVER (PARTITION BY suite ORDER BY run DESC) <= ?
ORDER BY suite, run
"""


@dataclass(frozen=True)
class Found:
    """The newest result of a rule in one environment."""

    status: str
    observed: str | None
    examples: Sequence[Example]


@dataclass(frozen=True)
class Rule:
    """A rule in words, its reason, and its results by environment."""

    demand: str
    note: str
    found: dict[str, Found] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The worst result."""
        return _worst([found.status for found in self.found.values()])


@dataclass
class Checked:
    """The newest run of a suite in one environment."""

    rows: int
    checked_at: str
    statuses: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The worst result of a rule."""
        return _worst(self.statuses)


@dataclass(frozen=True)
class SuiteHistory:
    """What the page shows of a suite: its newest run by environment, its rules, and (time, result) of the last runs."""

    name: str
    table: str
    description: str
    checked: dict[str, Checked] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    runs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def worst_first(self) -> list[Rule]:
        """The rules, failed ones first."""
        return sorted(self.rules.values(), key=lambda rule: _WORST_FIRST.index(rule.status))


def write_quality_page(folder: Path, suites: Sequence[str]) -> Path:
    """Write the page about the history in a folder, and return its path.

    Args:
        folder: of the results of checks.
        suites: names of the suites that exist; results of others are history.

    Raises:
        OSError: the page cannot be written.
        RunError: the history cannot be read.
    """
    histories: dict[str, SuiteHistory] = {}
    try:
        with duckdb.connect(str(folder / FILE), read_only=True) as connection:
            rows = connection.execute(_NEWEST, [list(suites)]).fetchall()
            environments = list(dict.fromkeys(row[3] for row in rows))
            environments.sort(key=lambda name: (name != "prod", name))
            runs = connection.execute(_HISTORY, [environments[0] if environments else "prod", _SHOWN]).fetchall()
    except duckdb.Error as error:
        raise RunError(f"cannot read {folder / FILE}: {first_line(error)}") from None
    for name, table, description, environment, count, checked_at, demand, note, status, observed, examples in rows:
        suite = histories.setdefault(name, SuiteHistory(name, table, description))
        suite.checked.setdefault(environment, Checked(count, checked_at)).statuses.append(status)
        rule = suite.rules.setdefault(demand, Rule(demand, note))
        # Of rules in the same words only the worst is shown.
        if environment not in rule.found or _worst([status, rule.found[environment].status]) == status:
            rule.found[environment] = Found(status, observed, json.loads(examples))
    for name, checked_at, statuses in runs:
        if name in histories:
            histories[name].runs.append((checked_at, _worst(statuses)))
    write_page(
        folder / PAGE,
        "vlm4rec_search.pipeline",
        "quality.html",
        environments=environments,
        verdicts=[_verdict(environment, list(histories.values())) for environment in environments],
        suites=[histories[name] for name in sorted(histories)],
        shown=_SHOWN,
    )
    return folder / PAGE


def _verdict(environment: str, suites: list[SuiteHistory]) -> tuple[str, str, str]:
    """Return environment, worst result, and one sentence about the newest run of each of its suites."""
    checked = {suite.name: suite.checked[environment] for suite in suites if environment in suite.checked}
    failed = [name for name, one in checked.items() if one.status == "failed"]
    warnings = sum(one.statuses.count("warning") for one in checked.values())
    passed = f"all {len(checked)} suites passed" if len(checked) > 1 else "the suite passed"
    text = f"{', '.join(failed)} failed" if failed else passed
    text += f", {warnings} warning{'' if warnings == 1 else 's'}" if warnings else ""
    times = [one.checked_at for one in checked.values()]
    when = f"checked {max(times)}"
    if max(times) != min(times):
        when = f"{times.count(max(times))} of {len(times)} {when}, the oldest result is of {min(times)}"
    return environment, _worst([one.status for one in checked.values()]), f"{text}; {when}"


def _worst(statuses: Sequence[str]) -> str:
    return next((status for status in _WORST_FIRST if status in statuses), "passed")
