"""`vlm4rec tune`: choose the ranking configuration on held-out interactions."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option

if TYPE_CHECKING:
    from vlm4rec_search.evaluation.tuning.tune import Tuned


@click.command()
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), default=Path("ranking.yaml"),
              show_default=True, help="File of the new configuration.")  # fmt: skip
@click.option("--version", default="tuned-1", show_default=True, help="Name of the new configuration.")
@click.option("--tables/--no-tables", default=True, show_default=True, help="Also try half-lives, windows and words.")
@click.option("--candidates", type=click.Choice(["known", "all"]), default="known", show_default=True,
              help="Rank items that somebody had taken before the cut, or the whole catalogue.")  # fmt: skip
@json_option
def tune(target: Path, version: str, tables: bool, candidates: str, as_json: bool) -> None:
    """Choose fusion, weights, depth, profile, half-lives and windows on a validation split.

    The candidates of every leg are asked once for each set of tables; weightings are then judged in milliseconds. The
    test split of `vlm4rec evaluate` is not looked at. Let VLM4REC_RANKING name the new file, then run `sqlmesh plan`
    and `vlm4rec index`.

    \b
    Example:
      vlm4rec tune --no-tables --to ranking.yaml
    """
    from typing import cast

    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.evaluation.protocol import Candidates, Protocol
    from vlm4rec_search.evaluation.tuning.tune import tune as choose
    from vlm4rec_search.search.ranking import write_ranking

    if not version.strip():
        raise UsageError("--version is the name that every answer tells: give one")
    if not target.resolve().parent.is_dir():
        raise UsageError(f"--to {target}: there is no folder {target.resolve().parent}; make it first")
    protocol = Protocol(candidates=cast("Candidates", candidates))
    tuned = choose(settings(), protocol, tables, version, lambda step: click.echo(step, err=True))
    write_ranking(tuned.ranking, target)
    if as_json:
        echo_json(_record(tuned))
        return
    _print(tuned)
    click.echo(f"Written: {target}. Next: VLM4REC_RANKING={target}, then sqlmesh plan and vlm4rec index")


def _record(tuned: "Tuned") -> dict[str, object]:
    from dataclasses import asdict

    return {
        "ranking": tuned.ranking.model_dump(mode="json"),
        "users": tuned.users,
        "tried": tuned.tried,
        "rows": [{"system": name, "nDCG@10": ndcg, "R@10": recall} for name, (ndcg, recall) in tuned.rows.items()],
        "differences": [asdict(difference) for difference in tuned.differences],
    }


def _print(tuned: "Tuned") -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{tuned.users:,} users of the validation split, {tuned.tried:,} rankings; 95% intervals are paired"
    table = Table("ranking", "nDCG@10", "R@10", "chosen minus it", title=title, title_justify="left")
    gains = {found.b: f"{found.difference:+.4f} [{found.low:+.4f} {found.high:+.4f}]" for found in tuned.differences}
    for name, (ndcg, recall) in tuned.rows.items():
        table.add_row(name, f"{ndcg:.4f}", f"{recall:.4f}", gains.get(name, ""))
    Console().print(table)
