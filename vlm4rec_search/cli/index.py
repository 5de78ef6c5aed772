"""`vlm4rec index`: publish a release."""

import click

from vlm4rec_search.cli.output import echo_json, json_option


@click.command()
@click.option("--environment", default="prod", show_default=True, help="SQLMesh environment to publish.")
@click.option("--force", is_flag=True, help="Publish though a suite fails; the release records it.")
@json_option
def index(environment: str, force: bool, as_json: bool) -> None:
    """Publish the search tables as a verified release.

    The expectation suites are run first; a failure refuses to publish. The release that answers now goes on
    answering until the new one is complete and verified; then a pointer is replaced in one step.

    \b
    Example:
      vlm4rec index
      vlm4rec index --environment dev --json
    """
    from dataclasses import asdict

    from vlm4rec_search.handover import publish_index
    from vlm4rec_search.settings import settings

    summary = publish_index(settings(), environment, force)
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
            f"Refused: {summary.rejected:,} documents and {summary.rejected_users:,} profiles; the table `rejected` of"
            " the release has the reasons"
        )
    click.echo("Next: vlm4rec search --user USER --explain")
