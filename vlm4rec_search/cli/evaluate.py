"""`vlm4rec evaluate` and `vlm4rec tune`: compare systems, and choose a ranking configuration."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from vlm4rec_search.cli.output import echo_json, json_option
from vlm4rec_search.cli.search import read_rankings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vlm4rec_search.evaluation.judged import JudgedResults, JudgedRow
    from vlm4rec_search.evaluation.results import Results, Row
    from vlm4rec_search.evaluation.significance import Difference
    from vlm4rec_search.evaluation.tuning.tune import Tuned


@click.command()
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), default=Path("ranking.yaml"),
              show_default=True, help="File of the new configuration.")  # fmt: skip
@click.option("--version", default="tuned-1", show_default=True, help="Name of the new configuration.")
@click.option("--tables/--no-tables", default=True, show_default=True, help="Also try half-lives, windows and words.")
@click.option("--candidates", type=click.Choice(["known", "all"]), default="known", show_default=True,
              help="Rank items that were taken before the cut (known), or the whole catalogue (all).")  # fmt: skip
@click.option("--users", "sample", type=click.IntRange(min=300), metavar="N",  # a choice needs 100, of any window
              help="The most shoppers, drawn at random, a third of them for each window; default: 3,000.")  # fmt: skip
@json_option
def tune(target: Path, version: str, tables: bool, candidates: str, sample: int | None, as_json: bool) -> None:
    """Choose fusion, weights, depth, profile, half-lives and windows on the shop's own history.

    Three earlier moments are windows: what shoppers took after each of them is to be found from the tables as of it.
    The test part of a time split of `vlm4rec evaluate` lies behind the last window and plays no role. `vlm4rec index`
    makes the same choice with --no-tables. To pin a file, set VLM4REC_RANKING to it and run `sqlmesh plan` and
    `vlm4rec index`. Where the history is too thin for a choice, nothing is written, and the command fails.

    \b
    Example:
      vlm4rec tune --no-tables --to ranking.yaml
    """
    from typing import cast

    from vlm4rec_search.common.errors import RunError, UsageError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.evaluation.protocol import Candidates, Protocol
    from vlm4rec_search.evaluation.tuning.tune import tune as choose
    from vlm4rec_search.search.ranking import write_ranking

    if not version.strip():
        raise UsageError("--version is empty: give the configuration a name, which every answer shows")
    if not target.resolve().parent.is_dir():
        raise UsageError(f"--to {target}: there is no folder {target.resolve().parent}; make it first")
    protocol = Protocol(candidates=cast("Candidates", candidates), sample=sample)
    tuned = choose(settings(), protocol, tables, version, lambda step: click.echo(step, err=True))
    if tuned.unchosen:
        raise RunError(f"no ranking can be chosen, so nothing is written to {target}: {tuned.unchosen}")
    write_ranking(tuned.ranking, target)
    if as_json:
        echo_json(_record(tuned))
        return
    if tuned.rows:
        _print_sweep(tuned)
    click.echo(f"Ranking: {tuned.reason}")
    click.echo(f"Written: {target}. Next: VLM4REC_RANKING={target}, then sqlmesh plan and vlm4rec index")


def _record(tuned: "Tuned") -> dict[str, object]:
    from dataclasses import asdict

    return {
        "ranking": tuned.ranking.model_dump(mode="json"),
        "reason": tuned.reason,
        "users": tuned.users,
        "first": tuned.first,
        "coverage": tuned.coverage,
        "tried": tuned.tried,
        "rows": [{"system": name, "nDCG@10": ndcg, "R@10": recall} for name, (ndcg, recall) in tuned.rows.items()],
        "differences": [asdict(difference) for difference in tuned.differences],
    }


def _print_sweep(tuned: "Tuned") -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{tuned.users:,} histories of earlier windows, {tuned.tried:,} rankings; 95% intervals are paired"
    table = Table("ranking", "nDCG@10", "R@10", "chosen minus this", title=title, title_justify="left")
    gains = {found.b: f"{found.difference:+.4f} [{found.low:+.4f} {found.high:+.4f}]" for found in tuned.differences}
    for name, (ndcg, recall) in tuned.rows.items():
        table.add_row(name, f"{ndcg:.4f}", f"{recall:.4f}", gains.get(name, ""))
    Console().print(table)


_SHOWN = ("R@10", "nDCG@10")
_OWN = "product-hybrid"  # what a search of a shopper answers
_OF_JUDGMENTS = ("--judgments", "--ranking", "--json")  # options that mean something without a split
_UNBOUNDED = 10_000  # columns
_SHARES = {"cover": "Coverage@10", "first": "TopShare@1", "tail": "Tail@10"}  # headings that fit into 80 columns


@click.command()
@click.option("--protocol", "rule", type=click.Choice(["time", "leave-one-out"]), default="time", show_default=True,
              help="Cut all histories at one moment, or hold out each user's last item (leaks in time).")  # fmt: skip
@click.option("--candidates", type=click.Choice(["known", "all"]), default="known", show_default=True,
              help="Rank items that were taken before the cut (known), or the whole catalogue (all).")  # fmt: skip
@click.option("--systems", default="", metavar="NAME,NAME", help="Systems to compare; default: all.")
@click.option("--repeat", is_flag=True,
              help="Also rank items of the history, and tell purchases of them apart; time split only.")  # fmt: skip
@click.option("--users", "sample", type=int, metavar="N", help="The most users, drawn at random; default: all.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same numbers.")
@click.option("--world", "worlds", multiple=True, type=click.Choice(["photo", "title"]),
              help="Evaluate on a simulated world of the built-in shop; can be repeated.")  # fmt: skip
@click.option(
    "--paper",
    is_flag=True,
    help="Show the paper's numbers beside ours; without --systems, only the paper's systems.",
)
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report to this HTML file.")
@click.option("--judgments", is_flag=False, flag_value="", metavar="[FILE]",
              help="Measure the live release by judgments of people; default: those of the page.")  # fmt: skip
@click.option("--ranking", "rankings", multiple=True, metavar="NAME=FILE",
              help="With --judgments: also measure this ranking; can be repeated.")  # fmt: skip
@json_option
def evaluate(
    rule: str,
    candidates: str,
    systems: str,
    repeat: bool,
    sample: int | None,
    seed: int,
    worlds: tuple[str, ...],
    paper: bool,
    report: Path | None,
    judgments: str | None,
    rankings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare systems on held-out interactions: same users, same candidates, an interval on every number.

    The tables are built as of the cut, on a copy of the warehouse. Systems choose their settings on a validation part;
    the test part is scored once. Every run is added to the results file (VLM4REC_RESULTS).

    With --judgments nothing is held out: the live release answers each judged shopper and text, under its own ranking
    and each --ranking. The judgments are those of the page of `vlm4rec serve`, or a CSV file with item_id, judgment,
    and user_id, query or both.

    \b
    Example:
      vlm4rec evaluate --systems product-hybrid,description-only,bm25 --report evaluation.html
      vlm4rec evaluate --paper
      vlm4rec evaluate --world photo --world title --report worlds.html
      vlm4rec evaluate --judgments --ranking new=ranking.yaml
    """
    from typing import cast

    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.evaluation import paper as table
    from vlm4rec_search.evaluation.evaluate import Job, run_evaluation
    from vlm4rec_search.evaluation.protocol import Candidates, Protocol, SplitRule

    if judgments is not None:
        if unused := [name for name in _given_options() if name not in _OF_JUDGMENTS]:
            raise UsageError(f"--judgments measures the live release by judgments alone: leave out {', '.join(unused)}")
        _evaluate_judged(judgments, rankings, as_json)
        return
    if rankings:
        raise UsageError("--ranking goes with --judgments; without it set VLM4REC_RANKING to the file")
    protocol = Protocol(
        cast("SplitRule", rule), cast("Candidates", candidates), repeat=repeat, seed=seed, sample=sample
    )
    names = [name.strip() for name in systems.split(",") if name.strip()] or (table.SYSTEMS if paper else ())
    job = Job(protocol, names, worlds, report)
    found = run_evaluation(settings(), job, lambda step: click.echo(step, err=True))
    if as_json:
        echo_json(_json(found, paper))
        return
    for world, results in found.items():
        _print(results, world)
        if paper:
            _print_paper(results)
    click.echo(f"Results: {settings().results}" + (f"; report: {report}" if report else "; a page: --report FILE.html"))


def _given_options() -> list[str]:
    """Return the names of the options that the caller has given to the command, such as --users."""
    context = click.get_current_context()
    source = context.get_parameter_source
    return [
        option.opts[0] for option in context.command.params if source(str(option.name)) is not ParameterSource.DEFAULT
    ]


def _evaluate_judged(file: str, named: tuple[str, ...], as_json: bool) -> None:
    """Measure the live release by a file of judgments, "" for that of the page."""
    from dataclasses import asdict

    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.judgments import read_judgments
    from vlm4rec_search.evaluation.judged import evaluate_judged
    from vlm4rec_search.indexes import open_index_of

    path = Path(file) if file else settings().judgments_file
    if file and not path.exists():
        raise UsageError(f"there is no file {path}")
    found = read_judgments(path)
    unread = found.describe_unread(path)
    if not found.latest:
        raise UsageError(
            f"there are no judgments: {unread or f'{path} has none; the page of `vlm4rec serve` adds some'}"
        )
    given = read_rankings(named)
    if "live" in given:
        raise UsageError("the ranking of the release is called live: give the other one another name")
    with open_index_of(settings()) as index:
        rankings = {"live": index.ranking, **given}
        results = evaluate_judged(index, rankings, found.latest, lambda step: click.echo(step, err=True))
    if as_json:
        echo_json({**asdict(results), "unread_lines": found.unread})
        return
    _print_judged(results)
    if unread:
        click.echo(unread)


def _print_judged(results: "JudgedResults") -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vlm4rec_search.evaluation.judged import METRICS

    cells = {(row.ranking, row.metric): row for row in results.rows}
    title = (
        f"{results.judgments:,} judgments of {results.queries:,} queries, release {results.release}\n"
        f"nDCG: {results.rows[0].queries:,} queries with a relevant item; in brackets 95% intervals\n"
        "judged only: without items that nobody judged; judged@10: share of top tens"
    )
    table = Table(box=SIMPLE, title=title, title_justify="left", collapse_padding=True, pad_edge=False, show_edge=False)
    table.add_column("ranking", overflow="fold")
    for heading in ("nDCG@10", "judged only", "P@10", "judged@10"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, version in dict.fromkeys((row.ranking, row.version) for row in results.rows):
        ndcg, *others = (cells[name, metric] for metric in METRICS)
        only, precision, judged = (each.value for each in others)
        numbers = ["" if only is None else f"{only:.4f}", f"{precision or 0.0:.3f}", f"{judged or 0.0:.0%}"]
        table.add_row(Text(f"{name} ({version})"), _number(ndcg), *numbers)
    Console().print(table)
    for each in results.differences:
        click.echo(
            f"nDCG@10 of {each.a} minus {each.b}: {each.difference:+.4f} [{each.low:+.4f} {each.high:+.4f}],"
            f" p {each.corrected:.3f}"
        )
    for line in results.left_out.describe():
        click.echo(line)


def _json(found: "dict[str, Results]", paper: bool) -> dict[str, object]:
    """Return the result of the warehouse's tables, or the results of simulated worlds by name."""
    from dataclasses import asdict

    from vlm4rec_search.evaluation.paper import beside_paper

    plain = {}
    for world, results in found.items():
        extra = {"paper": [asdict(row) for row in beside_paper(results.rows, results.rows[0].on)]} if paper else {}
        plain[world] = results.to_json() | extra
    return {"worlds": plain} if any(plain) else plain[""]


def _print_paper(results: "Results") -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from vlm4rec_search.evaluation.paper import CAVEAT, beside_paper

    table = Table("the paper's system", "here", box=SIMPLE, title="Beside the paper", title_justify="left")
    for name in ("paper R@10", "ours", "paper nDCG@10", "ours"):
        table.add_column(name, justify="right")
    for row in beside_paper(results.rows, results.rows[0].on):
        numbers = (row.paper_recall, row.recall, row.paper_ndcg, row.ndcg)
        table.add_row(row.paper, row.system, *("" if number is None else f"{number:.4f}" for number in numbers))
    Console().print(table)
    click.echo(CAVEAT)


def _print(results: "Results", world: str) -> None:
    from rich.console import Console

    from vlm4rec_search.evaluation.paper import effect
    from vlm4rec_search.evaluation.run import is_unchosen

    console = Console()
    if world:
        console.print(f"The built-in shop, world {world}", style="bold")
    for on in dict.fromkeys(row.on for row in results.rows):
        here = [row for row in results.rows if row.on == on]
        tables = [
            _table(here, on, *columns) for columns in ((_SHOWN, _SHARES), (("nDCG@10",), _SHARES), (("nDCG@10",), {}))
        ]
        console.print(_widest(tables, console))
    if gains := _gains(results):
        console.print()
        pairs = len(results.differences["nDCG@10"])
        tables = [_against(gains, pairs, with_interval) for with_interval in (True, False)]
        console.print(_widest(tables, console))
    for line in _repeats(results):
        console.print(line, highlight=False, soft_wrap=True)
    for line in effect(results):
        console.print(line, highlight=False, soft_wrap=True)
    if any(is_unchosen(row.setting) for row in results.rows):
        console.print(
            "not chosen: nobody could be asked in the validation part; these settings are defaults", style="yellow"
        )
    for name, why in _pairs(results.protocol.get("skipped")):
        console.print(f"not evaluated: {name}: {why}", style="yellow", markup=False, highlight=False)
    if results.protocol.get("leaks_in_time"):
        console.print("leave-one-out leaks in time: do not stake a release on it", style="yellow")


def _repeats(results: "Results") -> Iterator[str]:
    """Yield what systems reach over purchases of items in the history, and of others, where both may be ranked."""
    for name in ("repeat", "explore"):
        rows = [row for row in results.slices if row.slice == f"purchase: {name}" and row.metric == "R@10"]
        if rows:
            told = ", ".join(f"{row.system} {_number(row)}" for row in rows)
            yield f"R@10 of {name} purchases ({rows[0].users:,} users): {told}"


def _pairs(mapping: object) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in mapping.items()] if isinstance(mapping, dict) else []


def _widest(tables: "Sequence[Table]", console: "Console") -> "Table":
    """Return the first table of which no word, such as a name, has to be broken on this console, else the last."""
    from rich.measure import Measurement

    unbounded = console.options.update(max_width=_UNBOUNDED)
    for table in tables:
        for column in table.columns[1:]:  # rich would count the longest word of a number with its interval
            column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
        if Measurement.get(console, unbounded, table).minimum <= console.width:
            return table
    return tables[-1]


def _table(rows: "list[Row]", on: str, sure: Sequence[str], shown_shares: Mapping[str, str]) -> "Table":
    """Return the table of a comparison.

    Args:
        rows: of one comparison.
        on: which candidates.
        sure: the metrics of `_SHOWN` that are shown with their intervals.
        shown_shares: those of `_SHARES` that are shown.
    """
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    title = f"{on}: {rows[0].users:,} users, {rows[0].items:,} items; in brackets 95% intervals"
    if shown_shares:
        title += "\ncover: items in any top ten; first: users with the most frequent first item;"
        title += " tail: long-tail items in top tens"
    table = Table(box=SIMPLE, title=title, title_justify="left", collapse_padding=True, pad_edge=False, show_edge=False)
    table.add_column("system", overflow="fold")
    for metric in (*_SHOWN, *shown_shares):
        table.add_column(metric, justify="right", no_wrap=True)
    cells = {(row.system, row.metric): row for row in rows}
    names = dict.fromkeys(row.system for row in rows)
    for name in sorted(names, key=lambda system: -(cells[system, "nDCG@10"].value or 0.0)):
        numbers = [_number(cells[name, metric], metric in sure) for metric in _SHOWN]
        setting = _setting(cells[name, "nDCG@10"])
        shares = [f"{cells[name, metric].value or 0.0:.0%}" for metric in shown_shares.values()]
        table.add_row(Text(f"{name} ({setting})" if setting else name), *numbers, *shares)
    return table


def _setting(row: "Row") -> str:
    seeds = [] if row.spread is None else [f"{row.seeds} seeds, nDCG@10 {row.spread:.3f} apart"]
    return "; ".join([*filter(None, [row.setting]), *seeds])


def _number(row: "Row | JudgedRow", is_sure: bool = True) -> str:
    """Return a mean, and its interval where that is wanted."""
    if row.value is None or row.low is None or row.high is None:
        return ""
    return f"{row.value:.4f}" + (f" [{row.low:.3f} {row.high:.3f}]" if is_sure else "")


def _gains(results: "Results") -> "list[Difference]":
    """Return nDCG@10 of the answers minus that of each other system, smallest first."""
    pairs = results.differences["nDCG@10"]
    gains = [each.seen_from(_OWN) for each in pairs if _OWN in (each.a, each.b)]
    return sorted(gains, key=lambda gain: gain.difference)


def _against(gains: "Sequence[Difference]", pairs: int, with_interval: bool) -> "Table":
    """Return the table of `_gains`; p is corrected for all `pairs` of systems."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from vlm4rec_search.evaluation.significance import SIGNIFICANT

    title = f"nDCG@10 of {_OWN} minus that of each other system, over the same users; p after Holm, of {pairs} pairs"
    table = Table(box=SIMPLE, title=title, title_justify="left", collapse_padding=True, pad_edge=False, show_edge=False)
    table.add_column("system", overflow="fold")
    for heading in ("difference", "p", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for each in gains:
        is_sure = each.corrected < SIGNIFICANT
        verdict = ("better" if each.difference > 0.0 else "worse") if is_sure else "may be chance"
        interval = f" [{each.low:+.4f} {each.high:+.4f}]" if with_interval else ""
        p = f"{each.corrected:.3f}" if each.corrected >= 0.0005 else "<0.001"
        table.add_row(Text(each.b), Text(f"{each.difference:+.4f}{interval}"), p, verdict)
    return table
