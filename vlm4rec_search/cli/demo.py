"""`vlm4rec demo`: the whole job on the built-in shop."""

import click


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
    from vlm4rec_search.cli.demo_steps import run_demo

    run_demo(world, items, shoppers, seed)
