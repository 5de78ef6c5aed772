"""`vlm4rec check`: run the expectation suites."""

from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option, printable

if TYPE_CHECKING:
    from vlm4rec_search.pipeline.quality import QualityReport


@click.command()
@click.option("--environment", default="prod", show_default=True, help="SQLMesh environment whose tables are checked.")
@click.option("--suite", help="Run only this suite (a file in expectations/, without .yaml).")
@json_option
@click.pass_context
def check(ctx: click.Context, environment: str, suite: str | None, as_json: bool) -> None:
    """Check the tables, and what the ranking shows of them, with expectation suites.

    For the suite exposure a release is built in a temporary folder, and 200 shoppers are searched for. The results are
    also written as a page (HTML) with their history. Exits with 1 when a rule fails; warnings do not fail.

    \b
    Example:
      vlm4rec check
      vlm4rec check --environment dev --suite item_captions --json
    """
    from vlm4rec_search.common.errors import RunError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import ranking_in_force
    from vlm4rec_search.pipeline.quality import run_suites
    from vlm4rec_search.search.ranking import load_ranking
    from vlm4rec_search.search.rules import load_rules

    options = settings()
    expectations, docs = options.require_project() / "expectations", options.quality
    rules = load_rules(options.rules).rules
    try:
        ranking = ranking_in_force(options)
    except RunError as error:  # tables can be checked while the index is away
        click.echo(f"The suite exposure uses the packaged ranking: {error}", err=True)
        ranking = load_ranking()
    report = run_suites(
        options.warehouse,
        expectations,
        environment,
        options.max_age_days,
        docs,
        suite,
        ranking,
        rules,
        options.warehouse_memory,
    )
    if as_json:
        echo_json(report.as_json())
    else:
        _print_table(report)
        _print_findings(report)
    ctx.exit(0 if report.success else 1)


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
    for suite in report.suites:
        for word, findings in (("FAILED", suite.failed), ("warning", suite.warnings)):
            for finding in findings:
                click.echo(printable(f"{word} {suite.suite}: {finding.summary}"))
                for line in finding.example_lines:
                    click.echo(printable(f"    {line}"))
    failed = sum(len(suite.failed) for suite in report.suites)
    click.echo(f"{failed} rule{'' if failed == 1 else 's'} failed." if failed else "All suites passed.")
    if report.docs:
        click.echo(f"Page: {report.docs}")
