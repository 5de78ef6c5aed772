"""`vlm4rec ledger`: the model calls of each run and their cost."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option

if TYPE_CHECKING:
    from vlm4rec_search.common.cache import LedgerRow


@click.command()
@json_option
def ledger(as_json: bool) -> None:
    """Show the model calls of each run: computed, found in the cache, and failed.

    Each run has one row for each kind of model call: captions, sentence vectors, image vectors. Counts are distinct
    photos or texts. A killed run shows the calls that it had stored.

    Example: vlm4rec ledger --json
    """
    show_ledger(as_json)


def show_ledger(as_json: bool, kind: str | None = None) -> None:
    """Print the runs, optionally of one kind of model call only."""
    from vlm4rec_search.common.cache import FILE, Cache
    from vlm4rec_search.common.settings import settings

    rows: list[LedgerRow] = []
    if (settings().cache / FILE).exists():
        with Cache(settings().cache) as cache:
            rows = [row for row in cache.ledger() if kind in (None, row.kind)]
    if as_json:
        echo_json({"rows": [_json_row(row) for row in rows]})
    elif rows:
        _print_table(rows)
    else:
        click.echo(f"No model has been called yet: {settings().cache} contains no runs. `sqlmesh plan` adds the first.")


def _json_row(row: "LedgerRow") -> dict[str, str | int | float | bool]:
    values = {"captioner" if name == "producer" else name: value for name, value in asdict(row).items()}
    return values | {"seconds": round(row.seconds, 3), "cost": round(row.cost, 6)}


def _print_table(rows: "list[LedgerRow]") -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="model calls by run", title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("run", justify="right")
    table.add_column("started (UTC)", no_wrap=True)
    table.add_column("kind and model", overflow="fold")
    for column in ("computed", "cached", "failed", "tokens", "cost"):
        table.add_column(column, justify="right")
    for row in rows:
        counts = (f"{row.computed:,}", f"{row.cached:,}", f"{row.failed:,}", f"{row.tokens_in + row.tokens_out:,}")
        state = f"{row.seconds:.1f} s, {row.origin}" + ("" if row.finished else ", not finished")
        started = f"{row.started_at[:16].replace('T', ' ')}\n{state}"
        table.add_row(
            str(row.run),
            Text(started),
            Text(f"{row.kind}\n{row.producer.partition('@')[0]}"),
            *counts,
            f"{row.cost:.2f}",
        )
    Console().print(table)
