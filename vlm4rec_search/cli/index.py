"""`vlm4rec index`: publish a release."""

from functools import partial
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option, other_index

if TYPE_CHECKING:
    from vlm4rec_search.common.settings import Settings
    from vlm4rec_search.indexes.search_layer import SearchLayer
    from vlm4rec_search.search.ranking import Ranking


@click.command()
@click.option("--environment", default="prod", show_default=True, help="SQLMesh environment to publish.")
@click.option("--url", help="Folder or http(s)://HOST:PORT of the index; default: VLM4REC_INDEX_URL.")
@click.option(
    "--incremental", is_flag=True, help="On a server: copy the live release and send only documents that changed."
)
@click.option(
    "--force",
    is_flag=True,
    help="Publish although a suite or the gate fails; the release records it. Also although another release was"
    " activated meanwhile, or although more than a fifth of the live items or profiles would be deleted.",
)
@click.option("--gate", is_flag=True, help="Refuse a release that is worse than the live one on held-out interactions.")
@click.option(
    "--tolerance",
    type=float,
    default=0.01,
    show_default=True,
    help="How far nDCG@10 of held-out users may fall under --gate.",
)
@click.option(
    "--choose/--no-choose",
    default=True,
    show_default=True,
    help="Choose the ranking for this shop on what its shoppers took next (about a minute), unless nothing has changed"
    " since the last choice; without it the live release's ranking stays. A file in VLM4REC_RANKING is always taken as"
    " it is.",
)
@json_option
def index(
    environment: str,
    url: str | None,
    incremental: bool,
    force: bool,
    gate: bool,
    tolerance: float,
    choose: bool,
    as_json: bool,
) -> None:
    """Publish the search tables as a verified release.

    The expectation suites run first; nothing is published when one fails. The live release answers until the new one is
    complete and verified. Then the pointer of the folder, or all aliases of the server, are replaced in one step. With
    --gate both releases are searched as of an earlier moment for what held-out users took after it.

    The release holds the ranking that searches use. It is chosen on earlier windows of the shop's own history (see
    `vlm4rec tune --help`), and replaces the ranking in force only where it is better beyond chance.

    With VLM4REC_INDEX_PHOTOS=true it also holds the vectors of photos, for `vlm4rec search --photo`.

    \b
    Example:
      vlm4rec index
      vlm4rec index --gate --tolerance 0.005
      vlm4rec index --url http://localhost:9200 --incremental --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.publish import publish_index

    options = settings()
    compare = None
    if gate:
        from vlm4rec_search.evaluation.gate import judge_release

        compare = partial(judge_release, options, tolerance)
    summary = publish_index(
        options,
        environment,
        force,
        url,
        incremental,
        compare,
        partial(_choose, options, environment) if choose else None,
    )
    if as_json:
        echo_json(summary)
        return
    click.echo(
        f"Published {summary.release}: {summary.documents:,} documents ({summary.added:,} added,"
        f" {summary.changed:,} changed, {summary.deleted:,} deleted), {summary.users:,} profiles"
        f" ({summary.users_before:,} before), in {summary.seconds:.1f} s"
    )
    if summary.rejected or summary.rejected_users:
        click.echo(
            f"Refused: {summary.rejected:,} documents and {summary.rejected_users:,} profiles; the table `dead_letters`"
            f" of {options.releases} has the reasons"
        )
    click.echo("Next: vlm4rec search --user USER --explain" + other_index(url, options))


def _choose(
    options: "Settings", environment: str, tables: "SearchLayer", in_force: "Ranking | None"
) -> "tuple[Ranking, str]":
    """Choose the ranking for the shop, and say why.

    Raises:
        RunError: the tables of earlier moments cannot be built, or are not made as the published ones.
    """
    from vlm4rec_search.common.errors import RunError
    from vlm4rec_search.evaluation.protocol import Protocol
    from vlm4rec_search.evaluation.tuning.tune import tune
    from vlm4rec_search.search.ranking import CHOSEN

    if environment != "prod":
        raise RunError("a ranking is only chosen for the environment prod")
    version = f"{CHOSEN}{tables.as_of:%Y-%m-%d}" if tables.as_of else f"{CHOSEN}new"
    say = partial(click.echo, err=True)
    tuned = tune(options, Protocol(), False, version, say, in_force)
    if tuned.made_by not in (None, (tables.captioner, tables.encoder)):
        raise RunError(
            f"the settings name another captioner or encoder than the one that made the tables"
            f" ({tables.captioner}, {tables.encoder})"
        )
    return tuned.ranking, tuned.reason
