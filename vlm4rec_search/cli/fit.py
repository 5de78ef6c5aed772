"""`vlm4rec fit`: learn from the shop's history how texts and photos go together."""

from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option

if TYPE_CHECKING:
    from vlm4rec_search.embeddings.fitted import FittedName, FittedSystem


@click.command()
@click.argument("system", type=click.Choice(["attention", "gating"]), default="attention")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same numbers.")
@json_option
def fit(system: "FittedName", seed: int, as_json: bool) -> None:
    """Learn from the history how texts and photos go together, and keep it for the next plan.

    SYSTEM is attention (default) or gating. It needs photos and the extra `models`, and takes minutes. `sqlmesh plan`
    then makes a second vector of each item and shopper, and `vlm4rec index` publishes it and chooses its weight.

    \b
    Example:
      vlm4rec fit && sqlmesh plan && vlm4rec index
    """
    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.evaluation.fit import fit as run_fit

    if seed < 0:
        raise UsageError("--seed has to be 0 or more")
    found = run_fit(settings(), system, seed, lambda step: click.echo(step, err=True))
    if as_json:
        echo_json(found.model_dump(mode="json"))
        return
    _print(found)
    click.echo(f"Written: {settings().fitted}. Next: sqlmesh plan and vlm4rec index")


def _print(found: "FittedSystem") -> None:
    from rich.console import Console
    from rich.table import Table

    title = (
        f"{found.system}: nDCG@10 of what shoppers took before each moment, by a training that ends earlier;\n"
        "mean: of text and photo, which training starts from;\n"
        "learned: after the epochs that were best for these shoppers, so never less than the mean: no proof of a gain"
    )
    table = Table("knows up to", title=title, title_justify="left")
    for column in ("events", "shoppers", "judged", "epochs", "mean", "learned"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in found.fits:
        counts = (each.interactions, each.shoppers, each.judged, each.epochs)
        scores = (f"{each.ndcg_mean:.4f}", f"{each.ndcg:.4f}")
        table.add_row(f"{each.as_of:%Y-%m-%d %H:%M}", *(f"{count:,}" for count in counts), *scores)
    Console().print(table)
    if not found.fits[-1].epochs:
        click.echo("Nothing better than the mean of text and photo was learned; the second vector is this mean.")
