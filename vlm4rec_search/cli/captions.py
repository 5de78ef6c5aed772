"""`vlm4rec captions`: photos into words ahead of a plan, with what it costs."""

from pathlib import Path

import click

from vlm4rec_search.cli.captions_output import tell, tell_estimate
from vlm4rec_search.cli.captions_train import train_demo
from vlm4rec_search.cli.ledger import show_ledger
from vlm4rec_search.cli.output import echo_json, json_option, printable

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
    from vlm4rec_search.captioning.preview import preview as previewed
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
