"""What a plan costs after a delivery of 1% more interactions: each table, beside a first plan and one without a change.

    python -m benchmarks.delivery --interactions 2000000 --shoppers 50000 --items 40000

The log is a year in daily Parquet files, the delivery a new day of 1% of the shoppers. Each plan has its own process.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.commands import PLAN, VLM4REC, Finished, execute, project_in
from benchmarks.plan import DAYS, make_interactions, model_seconds, write_items

YEAR, DAY = 365, 86_400


def write_log(folder: Path, interactions: int, shoppers: int, items: int) -> None:
    """Write a year of interactions, one Parquet file for each day."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    for day in range(YEAR):
        rows = interactions // YEAR + (day < interactions % YEAR)
        log = make_interactions(items, rows, shoppers, day * DAY, rng, DAY)
        pq.write_table(log, folder / f"day-{day:03d}.parquet")


def write_delivery(folder: Path, interactions: int, shoppers: int, items: int) -> None:
    """Write the day after the year: 1% more interactions of 1% of the shoppers."""
    rng = np.random.default_rng(8)
    log = make_interactions(items, max(1, interactions // 100), max(1, shoppers // 100), DAYS, rng, DAY)
    pq.write_table(log, folder / f"day-{YEAR:03d}.parquet")


def main() -> None:
    """Make the shop, plan it three times and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interactions", type=int, default=2_000_000)
    parser.add_argument("--shoppers", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--memory", help="of the warehouse, as VLM4REC_WAREHOUSE_MEMORY")
    parser.add_argument("--only-first", action="store_true", help="no delivery and no publication")
    parser.add_argument("--folder", type=Path, help="in which the temporary shop is made")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        _measure(Path(name), asked)


def _measure(folder: Path, asked: argparse.Namespace) -> None:
    size = asked.interactions, asked.shoppers, asked.items
    shop = project_in(folder / "shop")
    if asked.memory:
        (shop / ".env").write_text(f"VLM4REC_WAREHOUSE_MEMORY={asked.memory}\n", "utf-8")
    write_items(shop / "data", asked.items)
    write_log(shop / "data" / "interactions", *size)
    publish = (*VLM4REC, "index", "--force", "--no-choose")
    done: dict[str, Finished] = {}

    def act(title: str, command: tuple[str, ...]) -> None:
        done[title] = execute(command, shop)
        print(f"{title}: {done[title].seconds:.1f} s, {done[title].peak / 2**30:.1f} GiB at its peak", flush=True)

    act("first plan", PLAN)
    if not asked.only_first:
        act("first publication", publish)
        write_delivery(shop / "data" / "interactions", *size)
        act("plan, 1% more", PLAN)
        act("publication, 1% more", publish)
        act("plan, no change", PLAN)
    plans = {title: model_seconds(finished.output) for title, finished in done.items() if "plan" in title}
    print(f"\n| table, s | {' | '.join(plans)} |\n|---|{'---|' * len(plans)}")
    for model, _ in sorted(plans["first plan"].items(), key=lambda one: -one[1]):
        print(f"| `{model}` | {' | '.join(f'{spent.get(model, 0):.1f}' for spent in plans.values())} |")
    rest = [done[title].seconds - sum(spent.values()) for title, spent in plans.items()]
    print(f"| start, state and all else | {' | '.join(f'{seconds:.1f}' for seconds in rest)} |")


if __name__ == "__main__":
    main()
