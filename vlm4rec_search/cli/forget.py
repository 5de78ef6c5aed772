"""`vlm4rec forget`: removes what is known of shoppers."""

from pathlib import Path

import click

from vlm4rec_search.cli.output import echo_json, json_option, printable


@click.command()
@click.option("--user", "user_ids", multiple=True, metavar="ID", help="A shopper to forget. Can be repeated.")
@click.option(
    "--users",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also the shoppers of a text file with one id a line.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing, and show where there are rows.")
@click.option("--url", "--index", "url", help="Folder or URL of the index; default: VLM4REC_INDEX_URL.")
@json_option
def forget(user_ids: tuple[str, ...], users: Path | None, dry_run: bool, url: str | None, as_json: bool) -> None:
    """Forget shoppers: remove their rows, and refuse those that are delivered later.

    Their ids stand as salted hashes in the file of VLM4REC_FORGOTTEN, which every plan reads. Rows leave the releases,
    the journal and the events of `vlm4rec serve`, the analysts' copy, the records, and Parquet files in the project's
    folder at once, and the tables with the next `sqlmesh plan`. Without an id the command does this again for all who
    are on the list. It can be repeated at any time.

    \b
    Example:
      vlm4rec forget --user u017 --dry-run
      vlm4rec forget --user u017 --user u018
      vlm4rec forget --users requests.txt --json
    """
    from vlm4rec_search.common.errors import RunError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.forget import forget as remove
    from vlm4rec_search.pipeline.recommendations import read_users

    ids = [*user_ids, *(read_users(users) if users else [])]
    done = remove(settings(), ids, dry_run, url)
    if as_json:
        echo_json(done)
    else:
        for removal in done.removals:
            verb = "would remove" if dry_run else "removed"
            click.echo(
                printable(removal.problem or f"{verb} {removal.rows:,} from {removal.place}"), err=bool(removal.problem)
            )
        if not done.removals:
            click.echo("No file and no release has rows of these shoppers.")
        if not dry_run:
            click.echo(f"{done.shoppers:,} shoppers are forgotten ({done.added:,} new).")
        click.echo("\nWhat this command cannot remove:")
        for sentence in done.stays:
            click.echo(f"- {printable(sentence)}")
        click.echo("\nNext: " + ("the same without --dry-run" if dry_run else "sqlmesh plan"))
    if done.problems:
        raise RunError(f"{len(done.problems)} places could not be cleaned: mend them and run `vlm4rec forget` again")
