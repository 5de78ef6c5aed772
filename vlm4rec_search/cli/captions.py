"""`vlm4rec captions`: photos into words ahead of a plan, with what it costs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.ledger import show_ledger
from vlm4rec_search.cli.output import echo_json, json_option, printable
from vlm4rec_search.common.errors import RunError

if TYPE_CHECKING:
    from vlm4rec_search.captioning.estimate import Estimate
    from vlm4rec_search.captioning.run import Summary


# What `vlm4rec captions` prints of a run and of an estimate.


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


# `vlm4rec captions train-demo`: the demo's own vision-language model, trained from nothing.


@click.command("train-demo")
@click.option("--to", type=click.Path(path_type=Path), default=Path("tiny-captioner"), show_default=True,
              help="Folder to write; an earlier model in it is replaced.")  # fmt: skip
@click.option("--photos", type=int, default=20_000, show_default=True, help="Drawings to train on.")
@click.option("--seeing", type=int, default=7_000, show_default=True, help="Steps of the vision tower alone.")
@click.option("--writing", type=int, default=1_600, show_default=True, help="Steps of the decoder on captions.")
@json_option
def train_demo(to: Path, photos: int, seeing: int, writing: int, as_json: bool) -> None:
    """Train the small vision-language model of the built-in shop from random weights, on this machine's CPU.

    The captioner `tiny` comes with such a model. Training takes three quarters of an hour on two cores and 6 GB of
    memory, then 1,000 drawings that it has not seen are captioned and MODEL_CARD.md is written. Use the result with
    VLM4REC_CAPTIONER=transformers:tiny-captioner.

    \b
    Example:
      vlm4rec captions train-demo --to tiny-captioner
    """
    from dataclasses import asdict

    from vlm4rec_search.captioning.captioners.tiny.train import make_model

    training = make_model(to, photos, seeing, writing)
    if as_json:
        echo_json(asdict(training))
        return
    click.echo(f"{to}: {training.parameters:,} parameters, {training.minutes:.0f} minutes, loss {training.loss:.4f}")
    for name, share in training.accuracy.items():
        click.echo(f"  {name:<14} {share:.3f}")


captioner_option = click.option("--captioner", metavar="NAME", help="Another captioner than VLM4REC_CAPTIONER.")
environment_option = click.option(
    "--environment", default="prod", show_default=True, help="SQLMesh environment whose items are meant."
)
limit_option = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Most items to work on.")
cap_option = click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="MONEY",
    help="Most to spend; default: VLM4REC_CAPTION_MAX_COST.",
)


@click.group()
def captions() -> None:
    """Put photos into words ahead of `sqlmesh plan`, which then reads the cache; the warehouse is not held."""


captions.add_command(train_demo)


@captions.command()
@captioner_option
@limit_option
@cap_option
@environment_option
@json_option
def run(captioner: str | None, limit: int | None, max_cost: float | None, environment: str, as_json: bool) -> None:
    """Caption what is pending: popular and recent items first, every answer kept as it comes.

    Ctrl-C or a crash loses only the calls in flight; the next run goes on. --max-cost takes the place of
    VLM4REC_CAPTION_MAX_COST. Items come from the last `sqlmesh plan`; the next one sees the captions.

    \b
    Example:
      vlm4rec captions run --limit 1000 --max-cost 5
      vlm4rec captions run --captioner transformers:llava-hf/llava-v1.6-mistral-7b-hf && sqlmesh plan
    """
    from vlm4rec_search.captioning.run import run_captions
    from vlm4rec_search.common.settings import settings

    summary = run_captions(settings(), captioner, limit=limit, max_cost=max_cost, environment=environment)
    tell(summary, as_json)


@captions.command()
@click.option("--status", "statuses", multiple=True, help="Only this status; may be given several times.")
@captioner_option
@limit_option
@cap_option
@environment_option
@json_option
def retry(
    statuses: tuple[str, ...],
    captioner: str | None,
    limit: int | None,
    max_cost: float | None,
    environment: str,
    as_json: bool,
) -> None:
    """Ask once more where a call failed or its answer is not to be used, and look once more at photos that were bad.

    Statuses: failed, refused, empty, too_long, repeated, wrong_language, markup, echo; and of photos unreachable,
    blocked, unreadable, too_large, wrong_type: nothing is paid for one that is still so. An answer stays until a new
    one takes its place.

    \b
    Example:
      vlm4rec captions retry --status refused --status failed --limit 100
    """
    from vlm4rec_search.captioning.run import RETRIED, run_captions
    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.settings import settings

    if wrong := set(statuses) - set(RETRIED):
        raise UsageError(f"unknown status {', '.join(sorted(wrong))}: choose of {', '.join(RETRIED)}")
    chosen = statuses or RETRIED
    summary = run_captions(settings(), captioner, limit=limit, max_cost=max_cost, retry=chosen, environment=environment)
    tell(summary, as_json)


@captions.command()
@captioner_option
@environment_option
@json_option
def estimate(captioner: str | None, environment: str, as_json: bool) -> None:
    """Say what is left to do and what it will take, before anything is spent.

    Tokens and time are measured on earlier captions by the same captioner; `preview` makes the first. What is assumed
    is told. Prices are VLM4REC_PRICE_IN and VLM4REC_PRICE_OUT, per million tokens.

    Example: vlm4rec captions estimate --json
    """
    from vlm4rec_search.captioning.estimate import estimate as estimated
    from vlm4rec_search.common.settings import settings

    found = estimated(settings(), captioner, environment)
    if as_json:
        echo_json(found.as_json())
    else:
        tell_estimate(found)


@captions.command()
@click.option("-n", "count", type=click.IntRange(1, 100), default=3, show_default=True, help="How many items.")
@click.option("--prompts", is_flag=True, help="Show each prompt, too.")
@captioner_option
@environment_option
@json_option
def preview(count: int, prompts: bool, captioner: str | None, environment: str, as_json: bool) -> None:
    """Caption the first few items and show what comes back; the answers are kept, so nothing is paid twice.

    What failed before is shown, not asked for again.

    Example: vlm4rec captions preview -n 3 --prompts
    """
    from vlm4rec_search.captioning.run import preview as previewed
    from vlm4rec_search.common.settings import settings

    shown = previewed(settings(), count, captioner, environment)
    if as_json:
        echo_json({"rows": [one.as_json() for one in shown]})
        return
    for one in shown:
        click.secho(printable(f"{one.item_id}  {one.title}"), bold=True)
        if prompts:
            click.echo(one.prompt)
        usage = f"{one.seconds or 0:.2f} s, {one.tokens_in or 0} tokens in, {one.tokens_out or 0} out"
        click.echo(printable(f"  [{one.status}] {one.answer or one.error}") + f"  ({usage})")


@captions.command()
@click.argument("first")
@click.argument("second")
@click.option("--to", "path", type=click.Path(path_type=Path, dir_okay=False), default="captions.html",
              show_default=True, help="The page.")  # fmt: skip
@click.option("-n", "count", type=click.IntRange(1, 500), default=24, show_default=True, help="How many items.")
@environment_option
@json_option
def compare(first: str, second: str, path: Path, count: int, environment: str, as_json: bool) -> None:
    """Write one HTML page with photo, both captioners' words, and the nearest neighbours under each.

    Only what both have said before is compared: `vlm4rec captions run --captioner NAME --limit N` first.

    Example: vlm4rec captions compare attributes tiny --to captions.html
    """
    from vlm4rec_search.captioning.comparison import compare as compared
    from vlm4rec_search.common.settings import settings

    result = compared(settings(), first, second, path, count, environment)
    if as_json:
        echo_json(result)
    else:
        click.echo(f"{result['items']} items compared: {path}")


@captions.command()
@json_option
def ledger(as_json: bool) -> None:
    """Show what each run of captions computed, found in the cache, failed to compute, and cost.

    Example: vlm4rec captions ledger --json
    """
    show_ledger(as_json, "caption")
