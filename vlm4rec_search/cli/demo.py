"""`vlm4rec demo`: runs all steps on the built-in shop with the commands that a user would type."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.data import items_option, seed_option, shoppers_option, world_option
from vlm4rec_search.common.errors import RunError

if TYPE_CHECKING:
    from vlm4rec_search.common.settings import Settings

_CAPTIONER = "tiny"  # trained on photos of the built-in shop
_FOLDER = Path("vlm4rec-demo")
_OWN_FOLDER = """
All files are in the project {folder}, whose file .env sets the captioner of the photos, {captioner}:
  cd {folder}"""
_HERE = """
The photos were described by the captioner {captioner}. To run `sqlmesh plan` on this shop yourself, set it first:
  export VLM4REC_CAPTIONER={captioner}"""
_NEXT = """
What to try next
  # search for one shopper with a text, and show the reasons for each hit
  vlm4rec search --user {user} --text "striped bag" --explain
  # filter by category and price
  vlm4rec search --user {user} --filter category={category} --filter price=..60
  # look at shoppers, photos and reasons in a browser
  vlm4rec serve
  # show what the model calls cost
  vlm4rec ledger
  # show what was refused, and why
  vlm4rec queries run rows_refused

Open {docs} in a browser to see the results of all checks.
To use your own data: `vlm4rec init shop` in another folder."""


@click.command()
@world_option
@items_option
@shoppers_option
@seed_option
def demo(world: str, items: int, shoppers: int, seed: int) -> None:
    """Run all steps on the built-in shop: draw it, build and check the tables, publish, search.

    It works offline after one download of 83 MB. The photos are drawn and the shoppers are simulated. Outside of a
    project the command writes one, vlm4rec-demo, and runs in it. It writes to the paths of your settings (data/,
    warehouse.duckdb, index/ ...) and refuses a data folder that holds anything but a built-in shop.

    Example: vlm4rec demo --world title --items 500
    """
    from vlm4rec_search.common.settings import settings

    options = settings()
    captioner = options.captioner if "captioner" in options.model_fields_set else _CAPTIONER
    if own_folder := options.project is None:
        _enter_project(captioner)
        options = settings()

    def run(title: str, program: str, *arguments: str) -> None:
        """Print a command and run it in this environment, with the captioner of the demo."""
        click.secho(f"\n== {title}: {program} {' '.join(arguments)}", bold=True)
        started = time.monotonic()
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        environment = {**os.environ, "VLM4REC_CAPTIONER": captioner}
        code = subprocess.run(command, check=False, env=environment).returncode  # noqa: S603  fixed programs, no shell
        if code:
            raise RunError(f"the demo stopped: `{program} {arguments[0]}` ended with {code}; its message is above")
        click.echo(f"   done in {time.monotonic() - started:.1f} s")

    shop = ["--to", str(options.data_dir), "--world", world, "--items", str(items), "--shoppers", str(shoppers)]
    run("Draw the shop", "vlm4rec", "shop", *shop, "--seed", str(seed))
    plan = ["plan", "--auto-apply", "--no-prompts", "--skip-tests"]  # those of the packaged models, which nobody edited
    run("Build the tables", "sqlmesh", "-p", str(options.require_project()), *plan)
    run("Check the tables", "vlm4rec", "check")
    run("Publish the search index", "vlm4rec", "index")
    run("Publish a copy of the tables for analysts", "vlm4rec", "publish-tables")
    user, category = _choose_examples(options)
    run("Search for one shopper", "vlm4rec", "search", "--user", user, "-k", "5", "--explain")
    docs = options.quality / "data_docs" / "index.html"
    click.echo((_OWN_FOLDER if own_folder else _HERE).format(folder=_FOLDER, captioner=captioner))
    click.echo(_NEXT.format(user=user, category=category, docs=docs))


def _enter_project(captioner: str) -> None:
    """Write the project of the demo, unless an earlier demo has, and make it the working directory."""
    from vlm4rec_search.common.settings import ENV_FILE, is_project, settings
    from vlm4rec_search.pipeline.project import write_project

    if not is_project(_FOLDER):
        write_project(_FOLDER)
        (_FOLDER / ENV_FILE).write_text(f"VLM4REC_CAPTIONER={captioner}\n", "utf-8")
    click.echo(f"The demo runs in the project {_FOLDER}.")
    os.chdir(_FOLDER)
    settings.cache_clear()


def _choose_examples(options: "Settings") -> tuple[str, str]:
    """Return a shopper with about 12 items in the history, and the most frequent category."""
    from vlm4rec_search.common.warehouse import read

    with read(options.warehouse) as connection:
        user = connection.execute(
            "SELECT user_id FROM search.user_documents ORDER BY ABS(items - 12), user_id LIMIT 1"
        ).fetchone()
        category = connection.execute("SELECT MODE(category) FROM search.item_documents").fetchone()
    return str(user[0]) if user else "nobody", str(category[0]) if category else ""
