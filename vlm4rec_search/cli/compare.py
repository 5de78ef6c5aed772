"""`vlm4rec compare`: the outcome of a live comparison."""

from dataclasses import asdict

import click

from vlm4rec_search.cli.output import echo_json, json_option, printable


@click.command()
@click.argument("experiment", required=False)
@json_option
def compare(experiment: str | None, as_json: bool) -> None:
    """Compare the two variants of EXPERIMENT by what shoppers did with them.

    The file of rules (VLM4REC_RULES) declares experiments; `vlm4rec serve` assigns shoppers to them, and its events
    tell what they did. Without EXPERIMENT the only one is taken. Intervals are those of `vlm4rec evaluate`: 95%, over
    shoppers. Exits with 1 where the numbers of shoppers cannot come from the declared share, since something then lost
    or added shoppers of one variant.

    \b
    Example:
      vlm4rec compare new-ranking
      vlm4rec compare new-ranking --json
    """
    import duckdb

    from vlm4rec_search.common.errors import RunError, UsageError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.evaluation.live import compare_live, known_experiments
    from vlm4rec_search.pipeline.served_log import create_served_tables
    from vlm4rec_search.search.rules import load_rules

    options = settings()
    declared = load_rules(options.rules).experiments
    if not declared:
        raise UsageError("no experiment is declared: VLM4REC_RULES names a file with `experiments`")
    name = experiment or (next(iter(declared)) if len(declared) == 1 else "")
    if name not in declared:
        raise UsageError(f"name an experiment: declared are {', '.join(declared)}")
    with duckdb.connect() as connection:
        create_served_tables(connection, options)
        if name not in known_experiments(connection):
            raise UsageError(f"nothing was served in the experiment {name} yet")
        result = compare_live(connection, name, declared[name])
    if as_json:
        outcomes = [{**asdict(each), "verdict": each.verdict} for each in result.outcomes]
        echo_json({**asdict(result), "outcomes": outcomes, "is_void": result.is_void})
    else:
        click.echo(
            f"{printable(name)} ({result.method}): {result.answers:,} answers,"
            f" {result.shoppers_a:,} shoppers of a, {result.shoppers_b:,} of b"
        )
        for each in result.outcomes:
            click.echo(
                f"  {each.action:9} a {each.a:.4f}  b {each.b:.4f}  b - a {each.difference:+.4f}"
                f" [{each.low:+.4f} {each.high:+.4f}]  {each.verdict}"
            )
        if result.switched:
            click.echo(
                f"  left out: {result.switched:,} shoppers who got both variants (the share or salt was changed)"
            )
    if result.is_void:
        raise RunError(
            f"the numbers of shoppers do not fit the share {declared[name].share:g} (p = {result.mismatch_p:.2g}), so"
            " that the differences say nothing: look for what loses or adds shoppers of one variant"
        )
