"""Measure and write results.md: `python -m benchmarks [ROOM ...]`.

Each room and size runs in a process of its own, so that no state or memory passes on. What is finished stands in
results.json at once and is not measured again, unless with `--again`. `--compare REV` measures this tree and another
commit by turns and fails where a ratio has become `--limit` times as large.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.compare import compare
from benchmarks.measure import run
from benchmarks.report import Results, describe_machine, now
from benchmarks.rooms import ROOMS, room

PROJECT = Path(__file__).parents[1]
LONGEST = 3 * 3600  # seconds that a room may take at one size


def measure_apart(name: str, size: int, project: Path = PROJECT, *, profiled: bool = True) -> dict[str, Any]:
    """Measure a room at one size in a new process; a process that fails gives a line for the report."""
    with TemporaryDirectory(prefix="vlm4rec-bench-") as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "benchmarks", name, "--sizes", str(size), "--into", str(answer)]
        command += [] if profiled else ["--without-costs"]
        environment = os.environ | {"PYTHONPATH": str(project), "TMPDIR": folder}
        with subprocess.Popen(  # noqa: S603  our own command
            command, cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                _, errors = process.communicate(timeout=LONGEST)
            except BaseException as error:
                process.terminate()  # it stops its servers
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                return {"figures": [], "missing": {"all": f"took more than {LONGEST // 3600} hours"}}
        if process.returncode:
            last = (errors.strip().splitlines() or ["no message"])[-1][:200]
            return {"figures": [], "missing": {"all": f"the process ended with {process.returncode}: {last}"}}
        measured: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        return measured


def measure_here(name: str, size: int, into: Path, profiled: bool) -> None:
    """Measure a room at one size in this process, and write the figures as JSON."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that servers are stopped
    with room(name).load()(size) as contest:
        into.write_text(json.dumps(run(contest, profiled)), "utf-8")


def measure_all(
    work: Sequence[tuple[str, int]],
    results: Results,
    again: bool,
    measure: Callable[[str, int], dict[str, Any]],
    machine: dict[str, Any],
) -> None:
    """Measure rooms at their sizes and keep each as soon as it is finished.

    Args:
        work: rooms and sizes.
        results: what is kept.
        again: whether what was measured before is measured again.
        measure: measures a room at a size.
        machine: from `describe_machine`.
    """
    started = now()
    for name, size in work:
        if results.has(name, size) and not again:
            print(f"{name} {size:,}: finished before", flush=True)
            continue
        begun, load = time.monotonic(), round(os.getloadavg()[0], 1)
        measured = measure(name, size)
        if measured["figures"] or not results.has(name, size):
            results.replace(name, size, measured, started, machine, load)
        print(f"{name} {size:,}: {len(measured['figures'])} figures in {time.monotonic() - begun:.0f} s", flush=True)
        for rival, reason in measured["missing"].items():
            print(f"  not measured: {rival}: {reason}", flush=True)
    results.write()


def main() -> None:
    """Measure what was asked for, and write the report after each step."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [each.name for each in ROOMS]
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"default: all of {', '.join(names)}")
    parser.add_argument("--large", action="store_true", help="the large sizes: hours")
    parser.add_argument("--sizes", type=int, nargs="+", help="other sizes")
    parser.add_argument("--again", action="store_true", help="measure what is in results.json, too")
    parser.add_argument("--compare", metavar="REV", help="compare this tree with a commit")
    parser.add_argument("--limit", type=float, default=1.5, help="largest growth of a ratio with --compare")
    parser.add_argument("--pairs", type=int, default=3, help="turns of the two trees with --compare")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--without-costs", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := sorted(set(asked.rooms) - set(names)):
        parser.error(f"no room {unknown[0]}: choose from {', '.join(names)}")
    if asked.into:
        measure_here(asked.rooms[0], asked.sizes[0], asked.into, not asked.without_costs)
        return
    chosen = [each for each in ROOMS if each.name in (asked.rooms or names)]
    if asked.compare:
        sizes = {each.name: asked.sizes or ([each.compared] if each.compared else []) for each in chosen}
        raise SystemExit(compare(asked.compare, sizes, asked.pairs, asked.limit, measure_apart, PROJECT))
    results = Results()
    work = [(each.name, size) for each in chosen for size in asked.sizes or (each.large if asked.large else each.sizes)]
    measure_all(work, results, asked.again, measure_apart, describe_machine(PROJECT))
    print(f"Wrote {results.path.with_suffix('.md').relative_to(PROJECT)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("stopped: what is finished is kept, and the same command goes on with the rest") from None
