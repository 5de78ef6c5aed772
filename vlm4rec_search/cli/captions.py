"""`vlm4rec captions`: caption photos ahead of a plan, and show cost, previews and comparisons."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.ledger import show_ledger
from vlm4rec_search.cli.output import echo_json, json_option, printable
from vlm4rec_search.common.errors import RunError, UsageError

if TYPE_CHECKING:
    from vlm4rec_search.captioning.batch import ImportSummary
    from vlm4rec_search.captioning.estimate import Estimate
    from vlm4rec_search.captioning.run import RunSummary, Share

captioner_option = click.option("--captioner", metavar="NAME", help="Captioner to use instead of VLM4REC_CAPTIONER.")
environment_option = click.option(
    "--environment", default="prod", show_default=True, help="SQLMesh environment from which the items are read."
)
limit_option = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Largest number of items.")
cap_option = click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="MONEY",
    help="Most money to spend; default: VLM4REC_CAPTION_MAX_COST.",
)


def _parse_part(context: click.Context, option: click.Parameter, value: str | None) -> "Share | None":
    from vlm4rec_search.captioning.run import Share

    if value is None:
        return None
    number, _, of = value.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise click.BadParameter(f"{value!r} is no part: write 2/8 for the second of eight")
    return Share(int(number), int(of))


part_option = click.option(
    "--part", callback=_parse_part, metavar="K/N", help="Only the K-th of N parts of the items, for N machines."
)


@click.group()
def captions() -> None:
    """Caption photos ahead of `sqlmesh plan`, which then reads the captions from the cache.

    These commands do not lock the warehouse.
    """


@captions.command()
@captioner_option
@limit_option
@cap_option
@part_option
@environment_option
@json_option
def run(
    captioner: str | None,
    limit: int | None,
    max_cost: float | None,
    part: "Share | None",
    environment: str,
    as_json: bool,
) -> None:
    """Caption pending photos, popular and recent items first.

    Every answer is stored as soon as it arrives. Ctrl-C or a crash loses only the calls in flight; the next run
    continues. --max-cost replaces VLM4REC_CAPTION_MAX_COST. The items are those of the last `sqlmesh plan`; the next
    plan reads the new captions.

    \b
    Example:
      vlm4rec captions run --limit 1000 --max-cost 5
      vlm4rec captions run --captioner transformers:llava-hf/llava-v1.6-mistral-7b-hf && sqlmesh plan
    """
    from vlm4rec_search.captioning.run import run_captions
    from vlm4rec_search.common.settings import settings

    summary = run_captions(settings(), captioner, limit=limit, max_cost=max_cost, part=part, environment=environment)
    print_run(summary, as_json)


@captions.command()
@click.option("--status", "statuses", multiple=True, help="Retry this status only; may be repeated.")
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
    """Retry failed calls, unusable answers and bad photos.

    Statuses of captions: failed, refused, empty, too_long, repeated, wrong_language, markup, echo. Statuses of photos:
    unreachable, blocked, unreadable, too_large, wrong_type; a photo that is still bad costs nothing. An old answer is
    kept until a new one replaces it. With --limit, items that were never retried come first, then those whose last
    retry is the longest ago. Named alone, the status in_batch makes captions whose batch file was lost.

    Example: vlm4rec captions retry --status refused --status failed --limit 100
    """
    from vlm4rec_search.captioning.generate import IN_BATCH
    from vlm4rec_search.captioning.run import RETRYABLE, run_captions
    from vlm4rec_search.common.settings import settings

    known = (*RETRYABLE, IN_BATCH)
    if unknown := set(statuses) - set(known):
        raise UsageError(f"unknown status {', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    summary = run_captions(
        settings(), captioner, limit=limit, max_cost=max_cost, retry=statuses or RETRYABLE, environment=environment
    )
    print_run(summary, as_json)


def print_run(summary: "RunSummary", as_json: bool) -> None:
    """Print the results of a run.

    Raises:
        RunError: the run produced failures only.
    """
    if as_json:
        echo_json(summary)
    else:
        click.echo(f"{summary.captioner}: {summary.computed:,} captions made, {summary.failed:,} failed")
        _print_calls(summary)
        if summary.left:
            hint = "continue with a higher --max-cost (or VLM4REC_CAPTION_MAX_COST)"
            click.echo(f"The spending cap ended the run: {summary.left:,} photos are left; {hint}")
        click.echo("Items: " + ", ".join(f"{count:,} {status}" for status, count in summary.statuses.items()))
        if summary.computed or summary.failed:
            click.echo("Next: sqlmesh plan")
    if summary.failure:
        raise RunError(f"this run produced failures only: {summary.failure}")


def _print_calls(summary: "RunSummary | ImportSummary") -> None:
    """Print the tokens, the cost, and how often each of the first five reasons for a failure occurred."""
    if summary.tokens_in or summary.tokens_out:
        cost = f", {summary.cost:,.2f} spent" if summary.cost else ""
        click.echo(f"{summary.tokens_in:,} tokens in, {summary.tokens_out:,} out{cost}")
    for reason, count in list(summary.errors.items())[:5]:
        click.echo(printable(f"  {count:,} {reason}"))


@captions.command()
@captioner_option
@environment_option
@json_option
def estimate(captioner: str | None, environment: str, as_json: bool) -> None:
    """Estimate the cost and time of captioning the remaining items.

    No model is called. Tokens and time are measured on earlier captions by the same captioner; `preview` makes the
    first ones. Assumptions are marked as such. Prices are VLM4REC_PRICE_IN and VLM4REC_PRICE_OUT, per million tokens.

    Example: vlm4rec captions estimate --json
    """
    from vlm4rec_search.captioning.estimate import estimate_captions
    from vlm4rec_search.common.settings import settings

    estimated = estimate_captions(settings(), captioner, environment)
    if as_json:
        echo_json(estimated)
    else:
        print_estimate(estimated)


def print_estimate(estimated: "Estimate") -> None:
    """Print the remaining work and its cost."""
    click.echo(
        f"{estimated.captioner}: {estimated.items:,} items, {estimated.cached:,} captioned, {estimated.todo:,} to do,"
        f" {estimated.wrong:,} to retry, {estimated.unusable:,} without a usable photo"
        + (f", {estimated.in_batch:,} in batch files" if estimated.in_batch else "")
    )
    measured = f"measured on {estimated.measured:,} captions"
    basis = measured if estimated.measured else "assumed; `captions preview` measures them"
    click.echo(f"{estimated.tokens_in:,} tokens in, {estimated.tokens_out:,} out ({basis}); cost {estimated.cost:,.2f}")
    if estimated.hours is None:
        click.echo("Time: unknown before the first captions")
    else:
        click.echo(f"Time: {estimated.hours:.2f} h ({estimated.pace})")
    if estimated.unknown_edits:
        click.echo(printable(f"Manual captions for unknown items: {', '.join(estimated.unknown_edits)}"))


@captions.command("export-batch")
@click.argument("path", metavar="FILE.jsonl", type=click.Path(path_type=Path, dir_okay=False))
@captioner_option
@limit_option
@part_option
@click.option("--failed", is_flag=True, help="Also items whose last call failed, was refused or answered nothing.")
@click.option("--again", is_flag=True, help="Also items in earlier files, whose answers will not come.")
@click.option("--urls", is_flag=True, help="Name photos behind URLs by their URL, in place of their bytes.")
@click.option(
    "--max-requests", type=click.IntRange(min=1), default=50_000, show_default=True, help="Most requests of a file."
)
@click.option(
    "--max-megabytes",
    type=click.FloatRange(min=0, min_open=True),
    default=200,
    show_default=True,
    help="Most megabytes of a file.",
)
@environment_option
@json_option
def export_batch(
    path: Path,
    captioner: str | None,
    limit: int | None,
    part: "Share | None",
    failed: bool,
    again: bool,
    urls: bool,
    max_requests: int,
    max_megabytes: float,
    environment: str,
    as_json: bool,
) -> None:
    """Write the requests of pending items to batch files.

    The files have the OpenAI batch format: hosted batches and `vllm run-batch` read them. What is beyond the limits of
    a file goes to FILE-2.jsonl and so on. The items have the status in_batch until `import-batch` reads their answers;
    no run, plan or other export pays for them meanwhile.

    \b
    Example:
      vlm4rec captions export-batch captions.jsonl --captioner openai:Qwen/Qwen2.5-VL-7B-Instruct
      vllm run-batch -i captions.jsonl -o answers.jsonl --model Qwen/Qwen2.5-VL-7B-Instruct
      vlm4rec captions import-batch answers.jsonl --captioner openai:Qwen/Qwen2.5-VL-7B-Instruct
    """
    from vlm4rec_search.captioning.batch import export_batch
    from vlm4rec_search.common.settings import settings

    summary = export_batch(
        settings(),
        path,
        captioner,
        limit=limit,
        part=part,
        failed=failed,
        again=again,
        urls=urls,
        most_requests=max_requests,
        most_megabytes=max_megabytes,
        environment=environment,
    )
    if as_json:
        echo_json(summary)
        return
    for file in summary.files:
        click.echo(f"{file.path}: {file.requests:,} requests, {file.bytes / 1e6:,.1f} MB")
    click.echo(f"{summary.captioner}: {summary.requests:,} requests written")
    if summary.requests:
        basis = f"measured on {summary.measured:,} captions" if summary.measured else "assumed"
        tokens = f"{summary.tokens_in:,} tokens in, {summary.tokens_out:,} out ({basis})"
        click.echo(f"{tokens}; cost {summary.cost:,.2f}, without the discount of a batch")
    if summary.in_batch:
        click.echo(f"{summary.in_batch:,} items are in earlier files; --again writes their requests once more")
    if summary.bad_photos:
        click.echo(f"{summary.bad_photos:,} photos cannot be read; the next plan shows why")
    if summary.answered:
        click.echo(f"{summary.answered:,} items have an answer that cannot be used: `captions retry` asks again")
    if summary.elsewhere:
        click.echo(f"{summary.elsewhere:,} photos are being captioned by a run now, and were left out")
    if summary.requests:
        click.echo("Next: run the batch, then vlm4rec captions import-batch ANSWERS.jsonl")


@captions.command("import-batch")
@click.argument(
    "paths",
    metavar="OUTPUT.jsonl [ERRORS.jsonl]...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
)
@captioner_option
@environment_option
@json_option
def import_batch(paths: tuple[Path, ...], captioner: str | None, environment: str, as_json: bool) -> None:
    """Read the answers of batch files into the cache.

    Answers are cleaned and checked like those of a run, and their tokens count in the ledger. A second import of a file
    changes nothing, also where its errors were exported again meanwhile. Use the same --captioner as for the export.

    Example: vlm4rec captions import-batch answers.jsonl errors.jsonl && sqlmesh plan
    """
    from vlm4rec_search.captioning.batch import import_batch
    from vlm4rec_search.common.settings import settings

    summary = import_batch(settings(), paths, captioner, environment)
    if as_json:
        echo_json(summary)
        return
    known = f", {summary.known:,} known before" if summary.known else ""
    click.echo(f"{summary.captioner}: {summary.computed:,} answers read, {summary.failed:,} failed{known}")
    _print_calls(summary)
    for prompt, count in summary.other_prompts.items():
        click.echo(printable(f"{count:,} of them are for the prompt {prompt}: VLM4REC_PROMPT names another one now"))
    if summary.unknown:
        click.echo(
            f"{summary.unknown:,} answers are for no item of this catalogue, captioner and prompt. They are kept: a"
            " later import reads them when their items are there"
        )
    if summary.broken:
        shown = ", ".join(summary.broken[:3]) + (", ..." if len(summary.broken) > 3 else "")
        click.echo(printable(f"{len(summary.broken):,} lines are no answers: {shown}"))
    if summary.in_batch:
        click.echo(f"{summary.in_batch:,} items still wait for an answer; `export-batch --again` asks once more")
    if summary.computed or summary.failed:
        click.echo("Next: sqlmesh plan")


@captions.command()
@click.option("-n", "count", type=click.IntRange(1, 100), default=3, show_default=True, help="Number of items.")
@click.option("--prompts", is_flag=True, help="Also show each prompt.")
@captioner_option
@environment_option
@json_option
def preview(count: int, prompts: bool, captioner: str | None, environment: str, as_json: bool) -> None:
    """Caption a few items and show the answers.

    The answers are stored, so that no call is paid twice. An earlier failure is shown and not retried.

    Example: vlm4rec captions preview -n 3 --prompts
    """
    from vlm4rec_search.captioning.run import preview_captions
    from vlm4rec_search.common.settings import settings

    previews = preview_captions(settings(), count, captioner, environment)
    if as_json:
        echo_json({"rows": previews})
        return
    for row in previews:
        click.secho(printable(f"{row.item_id}  {row.title}"), bold=True)
        if prompts:
            click.echo(row.prompt)
        usage = f"{row.seconds or 0:.2f} s, {row.tokens_in or 0} tokens in, {row.tokens_out or 0} out"
        click.echo(printable(f"  [{row.status}] {row.answer or row.error}") + f"  ({usage})")


@captions.command()
@click.argument("first")
@click.argument("second")
@click.option(
    "--to",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default="captions.html",
    show_default=True,
    help="HTML file to write.",
)
@click.option("-n", "count", type=click.IntRange(1, 500), default=24, show_default=True, help="Number of items.")
@environment_option
@json_option
def compare(first: str, second: str, path: Path, count: int, environment: str, as_json: bool) -> None:
    """Compare two captioners on one HTML page.

    The page shows photos, both captions, and the nearest neighbours by each caption. It contains only items that both
    captioners have described before; `vlm4rec captions run --captioner NAME --limit N` describes more.

    Example: vlm4rec captions compare attributes tiny --to captions.html
    """
    from vlm4rec_search.captioning.comparison import compare_captioners
    from vlm4rec_search.common.settings import settings

    result = compare_captioners(settings(), first, second, path, count, environment)
    if as_json:
        echo_json(result)
    else:
        click.echo(f"{result['items']} items compared: {path}")


@captions.command()
@click.argument(
    "others",
    metavar="FOLDER...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
@json_option
def merge(others: tuple[Path, ...], as_json: bool) -> None:
    """Take over the captions of other caches.

    FOLDER is the VLM4REC_CACHE of another machine, or a copy of it, while no run uses it. Captions and failures that
    are missing here are copied, and an answer that cannot be used, such as a refusal, gives way to one that can; their
    tokens count in the ledger. All else that is here stays. A second merge of a folder changes nothing.

    Example: vlm4rec captions merge /mnt/machine-2/cache /mnt/machine-3/cache && sqlmesh plan
    """
    from vlm4rec_search.captioning.merge import merge_captions
    from vlm4rec_search.common.settings import settings

    merged = merge_captions(settings(), others)
    if as_json:
        echo_json({"rows": merged})
        return
    for row in merged:
        cost = f", {row.cost:,.2f} spent" if row.cost else ""
        replaced = f"{row.replaced:,} better answers, " if row.replaced else ""
        click.echo(
            f"{row.captioner}: {row.computed:,} captions, {row.failed:,} failures, {replaced}{row.known:,} known"
            f" before{cost}"
        )
    if any(row.computed or row.failed or row.replaced for row in merged):
        click.echo("Next: sqlmesh plan")


@captions.command()
@json_option
def ledger(as_json: bool) -> None:
    """Show the captioning runs and their cost.

    Example: vlm4rec captions ledger --json
    """
    show_ledger(as_json, "caption")


@captions.command("train-demo")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=Path("tiny-captioner"),
    show_default=True,
    help="Folder to write; an earlier model in it is replaced.",
)
@click.option("--photos", type=int, default=20_000, show_default=True, help="Number of drawings to train on.")
@click.option("--seeing", type=int, default=7_000, show_default=True, help="Steps of the vision tower alone.")
@click.option("--writing", type=int, default=1_600, show_default=True, help="Steps of the decoder on captions.")
@json_option
def train_demo(to: Path, photos: int, seeing: int, writing: int, as_json: bool) -> None:
    """Train the small model of the built-in shop.

    The captioner `tiny` is such a vision-language model. Training starts from random weights and runs on the CPU. It
    takes three quarters of an hour on two cores and 6 GB of memory. Then the model captions 1,000 drawings that it has
    not seen, and MODEL_CARD.md is written. Use the model with VLM4REC_CAPTIONER=transformers:tiny-captioner.

    Example: vlm4rec captions train-demo --to tiny-captioner
    """
    from vlm4rec_search.captioning.captioners.tiny.train import train_model

    report = train_model(to, photos, seeing, writing)
    if as_json:
        echo_json(report)
        return
    click.echo(f"{to}: {report.parameters:,} parameters, {report.minutes:.0f} minutes, loss {report.loss:.4f}")
    for name, share in report.accuracy.items():
        click.echo(f"  {name:<14} {share:.3f}")
