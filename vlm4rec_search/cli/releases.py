"""`vlm4rec releases`: which releases there are, what differs between them, and back to another one."""

import click

from vlm4rec_search.cli.output import echo_json, json_option, printable

# `vlm4rec doctor`: the tables against the index.


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
    from vlm4rec_search.indexes.search_layer import read_search_layer
    from vlm4rec_search.pipeline.doctor import examine

    with read(settings().warehouse) as connection:
        handed = read_search_layer(connection, environment)
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


url_option = click.option("--url", help="Where the index is; default: VLM4REC_INDEX_URL.")


@click.group()
def releases() -> None:
    """List, compare, roll back and prune releases, in a folder or on a server.

    \b
    Example:
      vlm4rec releases list
    """


@releases.command(name="list")
@json_option
@url_option
def list_releases(as_json: bool, url: str | None) -> None:
    """Show the releases that can answer, the oldest first.

    \b
    Example:
      vlm4rec releases list --url http://localhost:9200
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_releases

    found = open_releases(url or settings().index_url, settings())
    live, metas = found.live(), list(found.whole().values())
    if as_json:
        echo_json({"live": live, "releases": [{**meta.to_json(), "live": meta.name == live} for meta in metas]})
        return
    for meta in metas:
        mark = "*" if meta.name == live else " "
        click.echo(f"{mark} {meta.name}  {meta.documents:,} documents, {meta.users:,} profiles, checks {meta.checks}")
    click.echo("* answers" if live else "Nothing is published: `vlm4rec index` does it")


@releases.command()
@click.argument("first")
@click.argument("second", required=False)
@click.option("--users", default=200, show_default=True, type=click.IntRange(1), help="Users whose hits are compared.")
@json_option
@url_option
def diff(first: str, second: str | None, users: int, as_json: bool, url: str | None) -> None:
    """Compare two releases: documents, and what a sample of users gets; SECOND is by default the one that answers.

    \b
    Example:
      vlm4rec releases diff items__v4__all-minilm-l6-v2__20250630t120000000 --users 100
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_releases
    from vlm4rec_search.pipeline.diff import compare
    from vlm4rec_search.search.ranking import load_ranking
    from vlm4rec_search.search.rules import load_rules

    here = settings()
    places = open_releases(url or here.index_url, here)
    found = compare(places, first, second, users, load_ranking(here.ranking), load_rules(here.rules))
    if as_json:
        echo_json(found.to_json())
        return
    click.echo(f"{found.first} -> {found.second}")
    click.echo(f"documents: {found.added:,} added, {found.changed:,} changed, {found.deleted:,} deleted")
    for mode, share in found.kept.items():
        click.echo(f"top 10, {mode}: {share:.1%} stays ({found.users:,} users)")


@releases.command()
@click.argument("release", required=False)
@json_option
@url_option
def rollback(release: str | None, as_json: bool, url: str | None) -> None:
    """Let another release answer: RELEASE, or the one made before the one that answers.

    On a server it does not wait for a publication that is running, which then does not take its place unless forced.

    \b
    Example:
      vlm4rec releases rollback
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_releases

    name = open_releases(url or settings().index_url, settings()).rollback(release)
    echo_json({"live": name}) if as_json else click.echo(f"{name} answers now")


@releases.command()
@click.option("--keep", default=5, show_default=True, type=click.IntRange(1), help="Newest releases that stay.")
@json_option
@url_option
def prune(keep: int, as_json: bool, url: str | None) -> None:
    """Remove old releases; the one that answers and the one before it stay.

    \b
    Example:
      vlm4rec releases prune --keep 2
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_releases

    removed = open_releases(url or settings().index_url, settings()).prune(keep)
    echo_json({"removed": removed}) if as_json else click.echo(f"Removed: {', '.join(removed) or 'nothing'}")
