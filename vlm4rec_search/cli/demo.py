"""`vlm4rec demo`: the whole job on the built-in shop."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm4rec_search.common.errors import RunError

if TYPE_CHECKING:
    from vlm4rec_search.common.settings import Settings

# The whole job on the built-in shop, step by step, with the commands that a user would type.

CAPTIONER = "tiny"  # the shop's photos are the ones that it was trained for
NEXT = """
The photos were described by {captioner}: set VLM4REC_CAPTIONER={captioner} for plans of your own over this shop.

What to try next
  vlm4rec search --user {user} --text "striped bag" --explain
  vlm4rec search --user {user} --filter category={category} --filter price=..60
  vlm4rec ledger                          what every model call cost
  open {docs}   what the checks saw
  python -c "import duckdb; duckdb.connect('{published}', read_only=True).sql('FROM staging.rejected_items').show()"
Your own data: the README, "Bring your own data"."""


def run_demo(world: str, items: int, shoppers: int, seed: int) -> None:
    """Build the shop, plan, check, publish the tables and the index, and search for one of its shoppers.

    Raises:
        UsageError: the data folder holds something else than a built-in shop.
        RunError: a step failed.
    """
    from vlm4rec_search.common.settings import settings

    options = settings()
    captioner = options.captioner if "captioner" in options.model_fields_set else CAPTIONER
    os.environ["VLM4REC_CAPTIONER"] = captioner  # of the steps, which are processes of their own
    shop = ["--to", str(options.data_dir), "--world", world, "--items", str(items), "--shoppers", str(shoppers)]
    _step("Draw the shop", "vlm4rec", "shop", *shop, "--seed", str(seed))
    _step("Build the tables", "sqlmesh", "-p", str(options.project), "plan", "--auto-apply", "--no-prompts")
    _step("Check them", "vlm4rec", "check")
    _step("Publish the analysts' copy", "vlm4rec", "publish-tables")
    _step("Publish the index", "vlm4rec", "index")
    user, category = _example(options)
    _step("Search for a shopper", "vlm4rec", "search", "--user", user, "-k", "5", "--explain")
    published = options.published / options.warehouse.name
    docs = options.quality / "data_docs" / "index.html"
    click.echo(NEXT.format(captioner=captioner, user=user, category=category, docs=docs, published=published))


def _step(title: str, program: str, *arguments: str) -> None:
    """Run a command of this environment and show it, so that the reader can type it again."""
    click.secho(f"\n== {title}: {program} {' '.join(arguments)}", bold=True)
    started = time.monotonic()
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    code = subprocess.run(command, check=False).returncode  # noqa: S603  a fixed program, no shell
    if code:
        raise RunError(f"the demo stopped: `{program} {arguments[0]}` ended with {code}; its message is above")
    click.echo(f"   done in {time.monotonic() - started:.1f} s")


def _example(options: "Settings") -> tuple[str, str]:
    """Return a shopper with a middling history, and a category to filter on."""
    from vlm4rec_search.common.warehouse import read

    with read(options.warehouse) as connection:
        user = connection.execute(
            "SELECT user_id FROM search.user_documents ORDER BY ABS(items - 12), user_id LIMIT 1"
        ).fetchone()
        category = connection.execute("SELECT MODE(category) FROM search.item_documents").fetchone()
    return str(user[0]) if user else "nobody", str(category[0]) if category else ""


@click.command()
@click.option("--world", type=click.Choice(["photo", "title"]), default="photo", show_default=True,
              help="Where what shoppers like can be seen: only in photos, or in titles.")  # fmt: skip
@click.option("--items", type=int, default=240, show_default=True, help="Number of good items.")
@click.option("--shoppers", type=int, default=300, show_default=True, help="Number of shoppers.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same shop.")
def demo(world: str, items: int, shoppers: int, seed: int) -> None:
    """Run the whole job on the built-in shop, offline: shop, plan, check, publish, search.

    It is a demo: drawn photos and simulated shoppers. It writes where your settings point (data/, warehouse.duckdb,
    index/ ...) and refuses a data folder that is not a built-in shop.

    \b
    Example:
      vlm4rec demo --world title --items 500
    """

    run_demo(world, items, shoppers, seed)
