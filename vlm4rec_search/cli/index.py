"""`vlm4rec index`: publish a release."""

import click

from vlm4rec_search.cli.output import echo_json, json_option


@click.command()
@click.option("--environment", default="prod", show_default=True, help="SQLMesh environment to publish.")
@click.option("--url", help="Where to: a folder, or http(s)://HOST:PORT; default: VLM4REC_INDEX_URL.")
@click.option("--incremental", is_flag=True, help="On a server: change a copy of what answers, send what changed only.")
@click.option(
    "--force",
    is_flag=True,
    help="Publish though a suite fails, which the release records; on a server also though more than a fifth of what"
    " answers is gone, or another release was made to answer meanwhile.",
)
@click.option(
    "--gate", is_flag=True, help="Refuse a release that finds less than the one that answers, with confidence."
)
@click.option("--tolerance", type=float, default=0.01, show_default=True,
              help="How much nDCG@10 of held-out users may fall under --gate.")  # fmt: skip
@json_option
def index(
    environment: str,
    url: str | None,
    incremental: bool,
    force: bool,
    gate: bool,
    tolerance: float,
    as_json: bool,
) -> None:
    """Publish the search tables as a verified release.

    The expectation suites are run first; a failure refuses to publish. The release that answers now goes on
    answering until the new one is complete and verified; then a pointer, or all aliases, are replaced in one step.
    With --gate both are asked, as of an earlier moment, what held-out users took after it; --force publishes anyway.

    \b
    Example:
      vlm4rec index
      vlm4rec index --gate --tolerance 0.005
      vlm4rec index --url http://localhost:9200 --incremental --json
    """
    from dataclasses import asdict

    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.publish import publish_index

    summary = publish_index(settings(), environment, force, url, incremental, tolerance if gate else None)
    if as_json:
        echo_json(asdict(summary))
        return
    click.echo(
        f"Published {summary.release}: {summary.documents:,} documents ({summary.added:,} added,"
        f" {summary.changed:,} changed, {summary.deleted:,} deleted), {summary.users:,} profiles"
        f" ({summary.users_before:,} before), in {summary.seconds:.1f} s"
    )
    if summary.rejected or summary.rejected_users:
        click.echo(
            f"Refused: {summary.rejected:,} documents and {summary.rejected_users:,} profiles; the table `dead_letters`"
            f" of {settings().releases} has the reasons"
        )
    click.echo("Next: vlm4rec search --user USER --explain")
