"""`vlm4rec check`: run the expectation suites."""

import json
from importlib import import_module
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vlm4rec_search.quality import QualityReport


@click.command()
@click.option("--environment", default="prod", show_default=True, help="SQLMesh environment whose tables are checked.")
@click.option("--suite", help="Run this suite only (a file name in expectations/ without .yaml).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def check(ctx: click.Context, environment: str, suite: str | None, as_json: bool) -> None:
    """Judge the tables by the expectation suites and write Data Docs (HTML).

    Exits with 1 when a rule fails; warnings do not fail.

    \b
    Example:
      vlm4rec check
      vlm4rec check --environment dev --suite item_captions --json
    """
    report = _run(environment, suite)
    if as_json:
        click.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        _print_table(report)
        _print_findings(report)
    ctx.exit(0 if report.success else 1)


def _run(environment: str, suite: str | None) -> "QualityReport":
    from vlm4rec_search.progress import bar
    from vlm4rec_search.quality import run_suites
    from vlm4rec_search.quality.suites import load_suites
    from vlm4rec_search.settings import settings
    from vlm4rec_search.warehouse import read

    options = settings()
    expectations = options.project / "expectations"
    names = load_suites(expectations, suite)
    with read(options.warehouse):
        pass  # what is wrong with the warehouse is told at once, not after the import
    click.echo("Loading Great Expectations (about 5 s) ...", err=True)
    import_module("great_expectations")  # before the bar, whose rate is that of the suites
    with bar("suites", len(names)) as advance:
        return run_suites(
            options.warehouse,
            expectations,
            environment,
            max_age_days=options.max_age_days,
            docs=options.quality,
            only=suite,
            advance=advance,
        )


def _print_table(report: "QualityReport") -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table("suite", box=SIMPLE)
    for name in ("rows", "rules", "failed", "warned"):
        table.add_column(name, justify="right")
    for suite in report.suites:
        numbers = (suite.rows, suite.rules, len(suite.failed), len(suite.warnings))
        style = "red" if suite.failed else "yellow" if suite.warnings else None
        table.add_row(suite.suite, *(f"{number:,}" for number in numbers), style=style)
    Console().print(table)


def _print_findings(report: "QualityReport") -> None:
    """Print one line per finding; control characters in a catalogue's text must not reach the terminal."""
    for suite in report.suites:
        for word, findings in (("FAILED", suite.failed), ("warning", suite.warnings)):
            for finding in findings:
                text = f"{word} {suite.suite}: {finding}"
                click.echo("".join(character if character.isprintable() else " " for character in text))
    failed = sum(len(suite.failed) for suite in report.suites)
    click.echo(f"{failed} rule{'' if failed == 1 else 's'} failed." if failed else "All suites passed.")
    if report.docs:
        click.echo(f"Data Docs: {report.docs}")
