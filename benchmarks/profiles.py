"""Time and memory of `sqlmesh plan` for profiles: 2 million interactions, 50,000 shoppers, 40,000 items x 384.

    python -m benchmarks.profiles

The benchmark runs three plans in a temporary folder: of all tables; with another half-life, which rebuilds only the
profiles and the shoppers' documents; and with 1% more interactions of 1% of the shoppers, which rebuilds the tables but
computes only the vectors of those shoppers. It prints the time of the models in `profiles` (as SQLMesh reports it), the
time and the peak memory of the command, and the number of computed results from the ledger.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PROJECT = Path(__file__).parents[1]
EVENTS = np.array(["view", "cart", "purchase", "return"])
SHARES = (0.7, 0.15, 0.13, 0.02)
DAYS = 365 * 86_400


@dataclass(frozen=True)
class Size:
    """Size of the generated data set."""

    interactions: int
    users: int
    items: int


def write_items(folder: Path, items: int, rng: np.random.Generator) -> None:
    """Write a catalogue of titles of six words out of 5,000."""
    words = np.array([f"word{word:04d}" for word in range(5_000)])
    titles = [" ".join(row) for row in words[rng.integers(0, len(words), (items, 6))]]
    ids = [f"i{item:05d}" for item in range(items)]
    categories = [f"category {item % 40}" for item in range(items)]
    pq.write_table(pa.table({"item_id": ids, "title": titles, "category": categories}), folder / "items.parquet")


def make_interactions(size: Size, rows: int, users: int, since: int, rng: np.random.Generator) -> pa.Table:
    """Return interactions of the first users in the year after `since` (seconds), mostly with popular items."""
    user = rng.integers(0, users, rows)
    item = (size.items * rng.random(rows) ** 2).astype(np.int64)
    seconds = (since + rng.integers(0, DAYS, rows)).astype("datetime64[s]")
    columns = {
        "user_id": np.char.add("u", user.astype(str)),
        "item_id": np.char.add("i", np.char.zfill(item.astype(str), 5)),
        "timestamp": seconds,
        "event_type": EVENTS[rng.choice(len(EVENTS), rows, p=SHARES)],
    }
    return pa.table(columns)


def run_plan(folder: Path, ranking: str = "") -> None:
    """Run `sqlmesh plan` and print its time, memory and counts."""
    settings = {"VLM4REC_DATA_DIR": "data", "VLM4REC_ENCODER": "hashing-384", "VLM4REC_IMAGE_ENCODER": "thumbnail-8"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VLM4REC_")}
    environment = inherited | settings | ({"VLM4REC_RANKING": ranking} if ranking else {})
    program = str(Path(sys.executable).with_name("sqlmesh"))
    command = [program, "-p", str(PROJECT), "plan", "--auto-apply", "--no-prompts", "--skip-tests"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    model_seconds = re.findall(r"\] profiles\.\w+\s+\[[^]]*\]\s+([\d.]+)s", output)
    profiles = sum(map(float, model_seconds))
    peak = f"peak memory so far {after.ru_maxrss / 2**20:.1f} GiB"
    print(f"    profiles {profiles:.1f} s; whole command {seconds:.1f} s, {busy:.1f} s of CPU time, {peak}")
    counts = [f"{row['kind']} {row['computed']:,}" for row in read_ledger(folder)[-2:]]
    print("    computed:", ", ".join(counts), flush=True)


def read_ledger(folder: Path) -> list[dict[str, str | int]]:
    """Return the ledger rows of profiles and interests."""
    program = str(Path(sys.executable).with_name("vlm4rec"))
    output = subprocess.run([program, "ledger", "--json"], cwd=folder, check=True, capture_output=True)  # noqa: S603
    return [row for row in json.loads(output.stdout)["rows"] if row["kind"] in ("profile", "interests")]


def main() -> None:
    """Generate the data, plan three times, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("interactions", 2_000_000), ("users", 50_000), ("items", 40_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = Size(**vars(parser.parse_args()))
    rng = np.random.default_rng(7)
    with TemporaryDirectory(prefix="vlm4rec-profiles-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        write_items(folder / "data", size.items, rng)
        log = make_interactions(size, size.interactions, size.users, 0, rng)
        pq.write_table(log, folder / "data" / "interactions.parquet")
        print(f"{size.interactions:,} interactions, {size.users:,} shoppers, {size.items:,} items")
        print("  all tables", flush=True)
        run_plan(folder)
        ranking = folder / "ranking.yaml"
        default_ranking = (PROJECT / "vlm4rec_search" / "search" / "default_ranking.yaml").read_text("utf-8")
        ranking.write_text(re.sub(r"(?m)^half_life_days: null", "half_life_days: 91", default_ranking), "utf-8")
        print("  another half-life", flush=True)
        run_plan(folder, str(ranking))
        more = make_interactions(size, size.interactions // 100, size.users // 100, DAYS, rng)
        pq.write_table(pa.concat_tables([log, more]), folder / "data" / "interactions.parquet")
        print(f"  1% more interactions, of {size.users // 100:,} shoppers", flush=True)
        run_plan(folder, str(ranking))


if __name__ == "__main__":
    main()
