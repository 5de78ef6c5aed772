"""`vlm4rec ledger`: what the model calls of each run cost."""

from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option

if TYPE_CHECKING:
    from vlm4rec_search.cache import LedgerRow


@click.command()
@json_option
def ledger(as_json: bool) -> None:
    """Show what each run computed, found in the cache, and failed to compute.

    One row for each kind of model call in a run: captions, sentence vectors, image vectors. Counts are distinct
    photos and texts. A run that was killed shows what it had committed.

    Example: vlm4rec ledger --json
    """
    from vlm4rec_search.cache import FILE, Cache
    from vlm4rec_search.settings import settings

    rows: list[LedgerRow] = []
    if (settings().cache / FILE).exists():
        with Cache(settings().cache) as cache:
            rows = cache.ledger()
    if as_json:
        echo_json({"rows": [_record(row) for row in rows]})
    elif rows:
        _table(rows)
    else:
        click.echo(f"No model was called yet: {settings().cache} is empty. `sqlmesh plan` fills it.")


def _record(row: "LedgerRow") -> dict[str, str | int | float | bool]:
    return {
        "run": row.run,
        "kind": row.kind,
        "captioner": row.maker,
        "computed": row.computed,
        "cached": row.cached,
        "failed": row.failed,
        "seconds": round(row.seconds, 3),
        "started_at": row.started_at,
        "finished": row.finished,
    }


def _table(rows: "list[LedgerRow]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="model calls by run")
    for column in ("run", "started (UTC)", "kind", "by"):
        table.add_column(column)
    for column in ("computed", "cached", "failed", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in rows:
        counts = (str(row.computed), str(row.cached), str(row.failed), f"{row.seconds:.1f}")
        state = "" if row.finished else "not finished"
        table.add_row(str(row.run), row.started_at, row.kind, row.maker, *counts, state)
    Console().print(table)
