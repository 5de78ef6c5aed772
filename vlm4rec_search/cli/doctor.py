"""`vlm4rec doctor`: the tables against the index."""

import click

from vlm4rec_search.cli.output import echo_json, json_option, printable


@click.command()
@click.option("--url", help="Where the index is; default: VLM4REC_INDEX_URL.")
@click.option("--environment", default="prod", show_default=True, help="SQLMesh environment of the tables.")
@click.option("--users", default=200, show_default=True, type=click.IntRange(1), help="Users whose hits are looked at.")
@json_option
def doctor(url: str | None, environment: str, users: int, as_json: bool) -> None:
    """Compare the tables with the release that answers; exit code 1 when they differ.

    Errors are items, profiles and segments that are missing, extra or stale, other popularity or co-purchases of items
    (stale behaviour), other vectors, and another model. Warnings are captions that items share, items that are among
    the hits of too many users, and items that are among nobody's.

    \b
    Example:
      vlm4rec doctor --url http://localhost:9200 --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.common.warehouse import read
    from vlm4rec_search.indexes import open_releases
    from vlm4rec_search.pipeline.doctor import examine
    from vlm4rec_search.pipeline.publish import read_tables

    with read(settings().warehouse) as connection:
        handed = read_tables(connection, environment)
    findings = examine(open_releases(url or settings().index_url, settings()), handed, users)
    success = all(finding.severity != "error" for finding in findings)
    if as_json:
        echo_json({"success": success, "findings": [finding.to_json() for finding in findings]})
    else:
        for finding in findings:
            kind, shown = finding.kind.replace("_", " "), ", ".join(finding.examples)
            click.echo(f"{finding.severity}: {finding.count:,} {kind}, such as {printable(shown)}")
        click.echo("The index holds what the tables say" if success else "Next: vlm4rec index")
    if not success:
        raise SystemExit(1)
