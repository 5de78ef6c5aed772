"""`vlm4rec recommend`: the recommendations of many shoppers as a file."""

from pathlib import Path

import click

from vlm4rec_search.cli.output import echo_json, json_option
from vlm4rec_search.cli.search import under_scenario

_PATH = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--all", "everybody", is_flag=True, help="Every shopper of the live release.")
@click.option("--users", type=_PATH, metavar="FILE", help="Only the shoppers of a text file with one id a line.")
@click.option("--to", type=_PATH, metavar="FILE", help="File to write, NAME.parquet; default: VLM4REC_RECOMMENDATIONS.")
@click.option("-k", "k", default=10, show_default=True, type=int, help="Number of items a shopper, 1 to 10,000.")
@click.option("--filter", "filters", multiple=True, metavar="FIELD=VALUE", help="Condition; can be repeated.")
@click.option("--scenario", help="Name of a preset of options in the file of VLM4REC_RULES.")
@click.option("--processes", type=click.IntRange(1, 64), metavar="N",
              help="How many answer at once from a folder; default: one for each core.")  # fmt: skip
@click.option("--url", "--index", "url", help="Folder or URL of the index; default: VLM4REC_INDEX_URL.")
@json_option
def recommend(
    everybody: bool,
    users: Path | None,
    to: Path | None,
    k: int,
    filters: tuple[str, ...],
    scenario: str | None,
    processes: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Write the recommendations of many shoppers to a Parquet file.

    One row for each shopper and rank: user_id, rank, item_id, score, reason, tier, release, ranking. They are what
    `vlm4rec search --user` answers. The file is replaced in one step at the end. `vlm4rec publish-tables` shows the
    file of VLM4REC_RECOMMENDATIONS to analysts as served.recommendations_batch.

    \b
    Example:
      vlm4rec recommend --all
      vlm4rec recommend --all --to mail.parquet -k 5 --scenario mail
      vlm4rec recommend --users returning.txt --to returning.parquet --json
    """
    from vlm4rec_search.common.concurrency import usable_cores
    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.progress import bar
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_index_of, open_releases
    from vlm4rec_search.pipeline.recommendations import all_users, read_users, write_recommendations
    from vlm4rec_search.search.query import Query

    if everybody == (users is not None):
        raise UsageError("say for whom: --all for every shopper of the live release, or --users FILE")
    options = settings()
    given = {"k": k, "filters": filters, "explain": True}
    arguments = under_scenario(scenario, given)
    with open_index_of(options, url) as index:
        if users is not None:
            people = read_users(users)
        else:
            with open_releases(url or options.index_url, options) as releases:
                people = all_users(releases, index.release.name)
        queries = [Query(user=user, **arguments) for user in people]
        batch = write_recommendations(index, queries, to or options.recommendations, bar, processes or usable_cores())
    if as_json:
        echo_json(batch)
        return
    tiers = ", ".join(f"{tier} {count:,}" for tier, count in batch.tiers.items())
    rate = batch.users / max(batch.seconds, 0.1)
    click.echo(
        f"Wrote {batch.path}: {batch.rows:,} recommendations for {batch.users:,} shoppers by release {batch.release},"
        f" in {batch.seconds:.1f} s ({rate:,.0f} shoppers/s)"
    )
    click.echo(f"tiers: {tiers}" + (f"; {batch.empty:,} shoppers got nothing" if batch.empty else ""))
