"""What `vlm4rec captions` prints of a run and of an estimate."""

from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, printable
from vlm4rec_search.common.errors import RunError

if TYPE_CHECKING:
    from vlm4rec_search.captioning.estimate import Estimate
    from vlm4rec_search.captioning.run import Summary


def tell(summary: "Summary", as_json: bool) -> None:
    """Print what a run did.

    Raises:
        RunError: nothing but failures came of it.
    """
    if as_json:
        echo_json(summary.as_json())
    else:
        _tell(summary)
    if summary.broken:
        raise RunError(f"nothing but failures came of this run: {summary.broken}")


def _tell(summary: "Summary") -> None:
    click.echo(f"{summary.captioner}: {summary.computed:,} captions made, {summary.failed:,} failed")
    if summary.tokens_in or summary.tokens_out:
        cost = f", {summary.cost:,.2f} spent" if summary.cost else ""
        click.echo(f"{summary.tokens_in:,} tokens in, {summary.tokens_out:,} out{cost}")
    if summary.left:
        more = "a higher --max-cost (or VLM4REC_CAPTION_MAX_COST) goes on"
        click.echo(f"The cap on spend ended the run: {summary.left:,} photos are left; {more}")
    click.echo("Items: " + ", ".join(f"{count:,} {status}" for status, count in summary.statuses.items()))
    if summary.computed or summary.failed:
        click.echo("Next: sqlmesh plan")


def tell_estimate(found: "Estimate") -> None:
    """Print what is left to do and what it takes."""
    click.echo(f"{found.captioner}: {found.items:,} items, {found.cached:,} captioned, {found.todo:,} to do, "
               f"{found.wrong:,} to retry, {found.unusable:,} without a usable photo")  # fmt: skip
    basis = f"measured on {found.measured:,} captions" if found.measured else "assumed; `captions preview` measures"
    click.echo(f"{found.tokens_in:,} tokens in, {found.tokens_out:,} out ({basis}); cost {found.cost:,.2f}")
    click.echo("Time: not known before the first captions" if found.hours is None
               else f"Time: {found.hours:.2f} h ({found.pace})")  # fmt: skip
    if found.unknown_edits:
        click.echo(printable(f"Captions by hand for unknown items: {', '.join(found.unknown_edits)}"))
