"""`vlm4rec releases` lists, compares, activates and removes releases; `vlm4rec doctor` compares one with the tables."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option, other_index, printable

if TYPE_CHECKING:
    from vlm4rec_search.indexes.release import ListedRelease

url_option = click.option("--url", help="Folder or URL of the index; default: VLM4REC_INDEX_URL.")


@click.command()
@url_option
@click.option("--environment", default="prod", show_default=True, help="SQLMesh environment of the tables.")
@click.option("--users", default=200, show_default=True, type=click.IntRange(1), help="Users whose hits are examined.")
@json_option
def doctor(url: str | None, environment: str, users: int, as_json: bool) -> None:
    """Compare the live release with the tables, and look at what its ranking shows.

    Exits with 1 when they differ: items, profiles or segments are missing, extra or stale, popularity or co-purchases
    of items differ (stale behaviour), vectors differ, or another model made them. Warnings do not fail: rows that
    their publication refused, of which the table dead_letters has the reasons; items that share a caption; the same
    first hit for more than 10% of a sample of shoppers; hubs, which are items in more than 30% of their top tens (of
    fewer than 100 items, in more than three times an equal share); items in no top ten, where the top tens show less
    than half of what they could (pins of the business rules are left out); rules that touch no item; experiments whose
    release is gone (lost experiments); a fitted system that makes no vectors, or not by its last fit (stale fit); a
    ranking that weighs only learned vectors, which the release lacks (idle ranking); files of the project that another
    version of the package wrote (old project); and vectors of photos in the release but not in the settings, or the
    other way round (other photos). After a rollback the release differs from the tables, which a warning says.

    Example: vlm4rec doctor --url http://localhost:9200 --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.common.warehouse import read
    from vlm4rec_search.datasets.forgotten import load_forgotten
    from vlm4rec_search.indexes import open_releases
    from vlm4rec_search.indexes.search_layer import read_search_layer
    from vlm4rec_search.pipeline.doctor import examine, find_stale_fit
    from vlm4rec_search.pipeline.lost_experiments import find_lost_experiments
    from vlm4rec_search.pipeline.project import find_old_project
    from vlm4rec_search.search.ranking import pinned_ranking
    from vlm4rec_search.search.rules import load_rules

    options = settings()
    ranking, given = pinned_ranking(options.ranking), load_rules(options.rules)
    with read(options.warehouse) as connection:
        search_layer = read_search_layer(connection, environment, options.index_photos)
        stale_fit = find_stale_fit(connection, environment, options.fitted, options.as_of is not None)
    with open_releases(url or options.index_url, options) as index:
        forgotten = load_forgotten(options.forgotten)
        also: dict[str, Sequence[str | None]] = {
            "lost_experiments": find_lost_experiments(given.experiments, index),
            "stale_fit": [stale_fit],
            "old_project": [find_old_project(options.project) if options.project else None],
        }
        diagnosis = examine(index, search_layer, users, ranking, given.rules, also, forgotten, options.releases)
    success = all(finding.severity != "error" for finding in diagnosis.findings)
    if as_json:
        echo_json({"success": success, "findings": diagnosis.findings, "exposure": diagnosis.exposure.to_json()})
    else:
        for finding in diagnosis.findings:
            click.echo(f"{finding.severity}: {printable(finding.text)}")
        click.echo(printable(f"Ranking: {diagnosis.exposure.verdict}"))
        is_older = any(finding.kind == "older_release" for finding in diagnosis.findings)
        cure = ("mend the tables, sqlmesh plan, " if is_older else "") + "vlm4rec index" + other_index(url, options)
        click.echo("The index agrees with the tables" if success else f"Next: {cure}")
    if not success:
        raise SystemExit(1)


@click.group()
def releases() -> None:
    """List, compare, activate and remove releases.

    The index is a folder or a server.

    Example: vlm4rec releases list
    """


@releases.command(name="list")
@json_option
@url_option
def list_releases(as_json: bool, url: str | None) -> None:
    """List the releases and mark the live one.

    Only complete releases are listed, the oldest first. Of one that cannot be opened, because it is damaged or of
    another package version, the reason is shown. Exits with 1 when the live release cannot be opened.

    Example: vlm4rec releases list --url http://localhost:9200
    """
    from vlm4rec_search.common.errors import RunError, Vlm4recError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_releases

    options = settings()
    with open_releases(url or options.index_url, options) as index:
        listed, live, problem = index.list(), None, None
        try:
            live = index.live()
            if live is not None:
                index.find(None)
        except Vlm4recError as error:  # which the list of the others helps to mend
            problem = error
    if as_json:
        rows = [_row(name, each, live) for name, each in listed.items()]
        echo_json({"live": live, "problem": str(problem) if problem else None, "releases": rows})
    else:
        for name, each in listed.items():
            click.echo(f"{'*' if name == live else ' '} {name}")
            for line in _lines(each):
                click.echo(line)
        if live in listed:
            click.echo("* is live")
        elif not (live or problem):
            click.echo("Nothing is published. Next: vlm4rec index" + other_index(url, options))
    if problem:
        raise RunError(str(problem))


def _row(name: str, listed: "ListedRelease", live: str | None) -> dict[str, object]:
    problem = str(listed.problem) if listed.problem else None
    return {"name": name, **(listed.meta.to_json() if listed.meta else {}), "live": name == live, "problem": problem}


def _lines(listed: "ListedRelease") -> Iterator[str]:
    meta = listed.meta
    if meta:
        yield printable(f"    {meta.documents:,} documents, {meta.users:,} profiles, checks {meta.checks}")
    if meta and meta.image_encoder:
        yield printable(f"    vectors of photos by {meta.image_encoder}")
    if meta and meta.chosen:
        yield click.wrap_text(printable(f"ranking {meta.chosen}"), 80, " " * 4, " " * 8)
    if listed.problem:
        yield printable(f"    cannot be opened: {listed.problem}")


@releases.command()
@click.argument("first")
@click.argument("second", required=False)
@click.option("--users", default=200, show_default=True, type=click.IntRange(1), help="Users whose hits are compared.")
@json_option
@url_option
def diff(first: str, second: str | None, users: int, as_json: bool, url: str | None) -> None:
    """Compare two releases.

    Documents are compared by content, and a sample of users is searched for in both: how many of their hits are the
    same, in each mode for users whose profile it can use, and what the hits show. Without SECOND, FIRST is compared
    with the live release.

    Example: vlm4rec releases diff items__v8__all-minilm-l6-v2__20250630t120000000 --users 100
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_releases
    from vlm4rec_search.pipeline.diff import compare_releases
    from vlm4rec_search.search.ranking import pinned_ranking
    from vlm4rec_search.search.rules import load_rules

    options = settings()
    ranking, rules = pinned_ranking(options.ranking), load_rules(options.rules).rules
    with open_releases(url or options.index_url, options) as index:
        differences = compare_releases(index, first, second, users, ranking, rules)
    if as_json:
        echo_json(differences.to_json())
        return
    click.echo(f"{differences.first} -> {differences.second}")
    click.echo(
        f"documents: {differences.added:,} added, {differences.changed:,} changed, {differences.deleted:,} deleted"
    )
    for kind, ids in differences.examples.items():
        if ids:
            click.echo(printable(f"  {kind}, such as {', '.join(ids)}"))
    for mode, share in differences.overlap.items():
        click.echo(f"top 10, {mode}: {share:.1%} in both releases ({differences.compared[mode]:,} users)")
    one, other = differences.first_exposure, differences.second_exposure
    click.echo(f"shoppers with the same first hit: {one.first_share:.0%} -> {other.first_share:.0%}")
    limits = " -> ".join(dict.fromkeys(f"{each.ubiquitous_above:.0%}" for each in (one, other)))
    click.echo(f"items in more than {limits} of top tens: {len(one.ubiquitous):,} -> {len(other.ubiquitous):,}")
    click.echo(f"documents in top tens: {one.coverage:.0%} -> {other.coverage:.0%}")
    click.echo(f"long-tail hits: {one.tail_share:.0%} -> {other.tail_share:.0%}")


@releases.command()
@click.argument("release", required=False)
@json_option
@url_option
def rollback(release: str | None, as_json: bool, url: str | None) -> None:
    """Make another release live.

    Without RELEASE it is the one that was made before the live release, also where the live one cannot be read; older
    ones that cannot be opened are passed over. Rollback does not wait for a running publication, and the publication
    does not replace the release afterwards unless it is forced.

    Example: vlm4rec releases rollback
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_releases

    with open_releases(url or settings().index_url, settings()) as index:
        name = index.rollback(release)
    echo_json({"live": name}) if as_json else click.echo(f"{name} is live now")


@releases.command()
@click.option("--keep", default=5, show_default=True, type=click.IntRange(1), help="Number of newest releases to keep.")
@json_option
@url_option
def prune(keep: int, as_json: bool, url: str | None) -> None:
    """Remove old releases, and what killed publications have left.

    The live release always stays, and so do the newest of the older ones that can be opened, for a rollback, and those
    that an experiment in the file of VLM4REC_RULES names.

    Example: vlm4rec releases prune --keep 2
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_releases
    from vlm4rec_search.search.rules import load_rules

    kept = load_rules(settings().rules).releases
    with open_releases(url or settings().index_url, settings()) as index:
        removed = index.prune(keep, kept)
    echo_json({"removed": removed}) if as_json else click.echo(f"Removed: {', '.join(removed) or 'no release'}")
