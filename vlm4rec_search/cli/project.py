"""The commands `init`, `upgrade` and `new`, which write a SQLMesh project of one's own."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option
from vlm4rec_search.common.errors import UsageError

if TYPE_CHECKING:
    from vlm4rec_search.pipeline.project import Change

_NEXT = """Next:
  cd {folder}
  # put items.csv and interactions.csv into data/, or convert the exports of your shop:
  vlm4rec import generic EXPORTS --to data --items catalogue.csv --interactions orders.csv
  sqlmesh plan && vlm4rec check && vlm4rec index
  vlm4rec search --text "striped bag" --explain
Without data of your own: `vlm4rec shop` draws the built-in shop."""

_NEXT_FOR_MODEL = """Next:
  sqlmesh test                           # runs the unit tests
  sqlmesh plan dev                       # builds the table beside production
  sqlmesh fetchdf "SELECT * FROM {layer}__dev.{table} LIMIT 5"
  vlm4rec check --environment dev        # the suites on the tables of dev
  sqlmesh plan                           # makes it part of production"""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    default="duckdb",
    show_default=True,
    help="What `sqlmesh plan` builds the tables with; spark is written into the project's .env.",
)
@json_option
def init(folder: Path, engine: str, as_json: bool) -> None:
    """Write a SQLMesh project of your own into DIR: models, macros, audits, expectation suites, tests, settings.

    DIR may exist, and its files stay as they are. Put the project under version control and edit what you like:
    `vlm4rec upgrade` keeps your edits.

    Example: vlm4rec init shop && cd shop
    """
    from vlm4rec_search.common.settings import ENV_FILE
    from vlm4rec_search.pipeline.project import write_project

    files, kept = write_project(folder, engine)
    if as_json:
        echo_json({"project": folder, "engine": engine, "files": files, "kept": kept})
        return
    if ENV_FILE in kept:
        click.echo(f"{folder / ENV_FILE}: kept, it was there before; it needs the line VLM4REC_ENGINE={engine}")
        kept.remove(ENV_FILE)
    for name in kept:
        click.echo(f"{folder / name}: kept, it was there before; `vlm4rec upgrade --force FILE` would replace it")
    click.echo(f"{folder}: a project of {len(files)} files; its README.md says what is where")
    click.echo(_NEXT.format(folder=folder))


@click.command()
@click.option("--diff", is_flag=True, help="Show what would change, and your edits; change nothing.")
@click.option("--force", multiple=True, metavar="FILE", help="Replace this edited file or folder. Can be repeated.")
@click.option(
    "--keep", multiple=True, metavar="FILE", help="Do not report this edited file or folder again. Can be repeated."
)
@json_option
def upgrade(diff: bool, force: tuple[str, ...], keep: tuple[str, ...], as_json: bool) -> None:
    """Bring the project to the version of the installed package.

    Files that you have not edited are replaced. A file that you edited stays as it is; if the new version changed it,
    too, the command says so until you take the new content with --force FILE, or decide for yours with --keep FILE.
    Captions, embeddings and releases are not touched.

    \b
    Example:
      vlm4rec upgrade --diff
      vlm4rec upgrade --force models/staging/items.sql
      sqlmesh plan
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.project import Outcome, plan_upgrade, upgrade_project

    project = settings().require_project()
    changes = plan_upgrade(project, _inside(project, force), _inside(project, keep))
    if not diff:
        upgrade_project(project, changes)
        changes = [change for change in changes if change.outcome is not Outcome.OWN]
    if as_json:
        files = [{"path": change.path, "outcome": change.outcome, "reason": change.reason} for change in changes]
        echo_json({"project": project, "applied": not diff, "files": files})
    else:
        _print_changes(changes, diff)


@click.group()
def new() -> None:
    """Write a new part of the project."""


@new.command()
@click.argument("name")
@json_option
def model(name: str, as_json: bool) -> None:
    """Write a table of your own, NAME or LAYER.NAME: an SQL model with audits, and a unit test that passes.

    The query counts the events of each shopper; replace it by yours. docs/own-tables.md shows the next steps.

    Example: vlm4rec new model analysis.big_baskets
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.project import write_model

    full_name, paths = write_model(settings().require_project(), name)
    if as_json:
        echo_json({"model": full_name, "files": paths})
        return
    for path in paths:
        click.echo(f"{path}: written")
    layer, table = full_name.split(".")
    click.echo(_NEXT_FOR_MODEL.format(layer=layer, table=table))


def _inside(project: Path, names: tuple[str, ...]) -> list[str]:
    """Return the paths, given from the working directory, as paths in the project."""
    root = project.resolve()
    for name in names:
        if not Path(name).resolve().is_relative_to(root):
            raise UsageError(f"{name} is not in the project {project}")
    return [Path(name).resolve().relative_to(root).as_posix() for name in names]


def _print_changes(changes: "list[Change]", diff: bool) -> None:
    from vlm4rec_search.pipeline.project import Outcome

    counts = Counter(change.outcome for change in changes)
    own, kept = counts[Outcome.OWN], counts[Outcome.KEEP]
    upgraded = len(changes) - own - kept
    for change in changes:
        click.echo(f"{change.outcome:<8} {change.path}: {change.reason}")
        if diff:
            click.echo(change.diff())
    if upgraded + kept == 0:
        click.echo("The project is up to date.")
    elif not diff and upgraded:
        click.echo(f"Upgraded: {upgraded}. Next: sqlmesh plan")
    if own:
        click.echo(f"Changed by you alone: {own}. They stay as they are; --force FILE gives up your edits of one.")
    if diff and upgraded + kept:
        click.echo(
            f"Changed in this version: {upgraded + kept}, of which you edited {kept}. Nothing has been written: run the"
            " command without --diff."
        )
    if kept and not diff:
        click.echo(
            f"Kept: {kept}. See `vlm4rec upgrade --diff`, then take the new content over by hand or with"
            " --force FILE, or decide for yours with --keep FILE"
        )
