"""The `openai` captioner against stub servers.

    python -m benchmarks.captions                     # one server: 16 requests in flight against 1 (a minute)
    python -m benchmarks.captions --fleet             # eight servers, some of which fail (a minute)
    python -m benchmarks.captions --photos 10000      # a catalogue is estimated, run, killed and resumed

Servers run in a process of their own and answer each request after 200 ms. The exit code is 1 if 16 requests in flight
give less than 12 times the throughput of 1, if a fleet is busy for less than 90% of its capacity, or if a catalogue
loses or pays again more calls than were in flight at the kill.
"""

import argparse
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from PIL import Image

from benchmarks.caption_servers import Stub, serving_fleet
from vlm4rec_search.captioning.base import Context
from vlm4rec_search.captioning.generate import caption_photos
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.captioning.run import run_captions
from vlm4rec_search.common.cache import FILE, Cache, FillPolicy
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.locate import locate_photos

SERVER_SECONDS, SMALLEST_SPEEDUP, SMALLEST_SHARE = 0.2, 12.0, 0.9
SERVERS, SLOTS = 8, 8
FAILING = [
    *[Stub(SERVER_SECONDS, SLOTS) for _ in range(4)],
    Stub(SERVER_SECONDS, SLOTS, faulty_every=20),
    Stub(SERVER_SECONDS * 5, SLOTS),
    Stub(SERVER_SECONDS, SLOTS, dies_at=100),
    Stub(SERVER_SECONDS, SLOTS, busy_at=100, busy_for=5.0),
]
"""Four good servers, and one that errs, a slow one, one that dies, and one that is busy for a while."""


def draw_photos(folder: Path, count: int, side: int = 1024) -> list[str]:
    """Write JPEG photos of `side` x `side` pixels and return their names."""
    draw = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in range(count)]
    for name in names:
        small = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(folder / name, quality=90)
    return names


def measure_throughput(url: str, folder: Path, workers: int, items: int) -> float:
    """Print and return the captions per second, from the photo files to the cache."""
    captioner = load_captioner(
        "openai:any", Settings.model_validate({"openai_url": url, "openai_workers": workers, "caption_canary": "off"})
    )
    photos = sorted(path.name for path in folder.glob("*.jpg"))
    contexts = [Context(f"item {number}") for number in range(items)]
    with Cache(folder / f"cache-{workers}") as cache:
        found = locate_photos([photos[number % len(photos)] for number in range(items)], folder, cache)
        start, cpu = time.monotonic(), time.process_time()
        outcomes, _ = caption_photos(captioner, found, contexts, cache, FillPolicy())
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    print(
        f"{workers:2} in flight: {items / seconds:6.2f} captions/s, {1000 * cpu / items:.1f} ms of CPU for each caption"
    )
    failed = [outcome for outcome in outcomes if outcome.status != "ok"]
    if failed:
        raise SystemExit(f"{len(failed)} of {items} captions failed: {failed[0].error}")
    return items / seconds


def compare_throughput() -> None:
    """Measure with 1 and 16 requests in flight, and fail below `SMALLEST_SPEEDUP`."""
    with tempfile.TemporaryDirectory() as name, serving_fleet(Stub(SERVER_SECONDS, slots=512)) as server:
        draw_photos(Path(name), 20)
        one = measure_throughput(server.setting, Path(name), 1, 30)
        sixteen = measure_throughput(server.setting, Path(name), 16, 480)
    print(f"speed-up: {sixteen / one:.1f}")
    if sixteen / one < SMALLEST_SPEEDUP:
        raise SystemExit(f"the speed-up is less than {SMALLEST_SPEEDUP:g}")


def write_catalogue(folder: Path, items: int, side: int) -> Settings:
    """Write a photo file for each item (20 different ones), and the tables that `vlm4rec captions` reads."""
    images = folder / "data" / "images"
    images.mkdir(parents=True)
    photos = draw_photos(folder, 20, side)
    for number in range(items):
        os.link(folder / photos[number % len(photos)], images / f"{number}.jpg")
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute("CREATE SCHEMA staging; CREATE SCHEMA histories")
        connection.execute("CREATE TABLE histories.user_histories (item_id TEXT, interacted_at TIMESTAMP)")
        connection.execute(
            "CREATE TABLE staging.items AS SELECT 'i' || number AS item_id, 'images/' || number || '.jpg' AS image,"
            " 'Item i' || number AS title, 'things' AS category FROM RANGE(?) AS numbers (number)",
            [items],
        )
    paths = {"data_dir": folder / "data", "warehouse": folder / "warehouse.duckdb", "cache": folder / "cache"}
    return Settings.model_validate({**paths, "published": folder / "published", "captioner": "openai:any"})


def measure_fleet(photos: int, side: int) -> None:
    """Caption with eight servers, some of which fail; print how busy each was, and fail below `SMALLEST_SHARE`."""
    with tempfile.TemporaryDirectory() as name, serving_fleet(*FAILING) as fleet:
        options = {"openai_url": fleet.setting, "openai_workers": SLOTS, "caption_canary": "off"}
        settings = write_catalogue(Path(name), photos, side).model_copy(update=options)
        start, cpu = time.monotonic(), time.process_time()
        summary = run_captions(settings)
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu
        answers, shares, logs = fleet.answers(), fleet.busy_shares(), fleet.logs()
    print(f"{photos:,} photos in {seconds:.1f} s, {1000 * cpu / photos:.1f} ms of CPU for each")
    for stub, share, log in zip(FAILING, shares, logs, strict=False):
        print(f"  busy {share:.1%}, {len(log.calls):,} calls: {stub}")
    print(f"busy for {shares[-1]:.1%} of the capacity of the servers that are up")
    twice = sum(count > 1 for count in answers.values())
    if summary.statuses != {"ok": photos} or len(answers) != photos or twice:
        raise SystemExit(f"{summary.statuses}, {len(answers)} photos answered, {twice} of them twice")
    if shares[-1] < SMALLEST_SHARE:
        raise SystemExit(f"the servers were busy for less than {SMALLEST_SHARE:.0%} of their capacity")


@dataclass
class Measured:
    """What a command used: wall and CPU seconds, peak memory in MB, and what it printed."""

    seconds: float
    cpu: float
    memory: float
    output: str


def run_command(settings: Settings, *arguments: str, kill: Callable[[], bool] | None = None) -> Measured:
    """Run `vlm4rec captions` in a process of its own; SIGKILL ends it as soon as `kill` returns True."""
    names = (
        "data_dir",
        "warehouse",
        "cache",
        "published",
        "captioner",
        "openai_url",
        "openai_workers",
        "caption_canary",
    )
    own = {f"VLM4REC_{name.upper()}": str(getattr(settings, name)) for name in names}
    command = [str(Path(sys.executable).with_name("vlm4rec")), "-q", "captions", *arguments]
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile("w+") as output:
        environment = {**os.environ, **own, "PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(command, stdout=output, env=environment, cwd=settings.data_dir)  # noqa: S603
        memory = 0.0
        while process.poll() is None:
            memory = max(memory, peak_memory(process.pid))
            if kill is not None and kill():
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(0.2)
        seconds = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode != (-signal.SIGKILL if kill else 0):
            raise SystemExit(f"{arguments} ended with {process.returncode}")
        output.seek(0)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Measured(seconds, cpu, memory, output.read())


def peak_memory(process: int) -> float:
    """Return the peak resident memory of a process in MB; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)


def count_captions(settings: Settings) -> int:
    """Return the number of captions in the cache."""
    try:
        with sqlite3.connect(f"file:{settings.cache / FILE}?mode=ro", uri=True, timeout=30) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM results WHERE kind = 'caption'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not created yet


def measure_catalogue(photos: int, side: int) -> None:
    """Estimate, run, kill, resume and repeat a catalogue; print what each step used."""
    stubs = [Stub(SERVER_SECONDS, SLOTS) for _ in range(SERVERS)]
    with tempfile.TemporaryDirectory() as name, serving_fleet(*stubs) as fleet:
        options = {"openai_url": fleet.setting, "openai_workers": SLOTS, "caption_canary": "off"}
        settings = write_catalogue(Path(name), photos, side).model_copy(update=options)
        steps = {"estimate": run_command(settings, "estimate", "--json")}
        steps["run, killed"] = run_command(settings, "run", kill=lambda: count_captions(settings) >= photos // 2)
        done = count_captions(settings)
        steps["resumed"] = run_command(settings, "run", "--json")
        steps["nothing to do"] = run_command(settings, "run", "--json")
        steps["estimate after"] = run_command(settings, "estimate", "--json")
        answers, share = fleet.answers(), fleet.busy_shares()[-1]
    computed = {"run, killed": done, "resumed": json.loads(steps["resumed"].output)["computed"]}
    print(
        f"{photos:,} photos of {side} x {side}, {SERVERS} servers of {SLOTS} slots,"
        f" {SERVER_SECONDS * 1000:.0f} ms a call"
    )
    for step, measured in steps.items():
        calls = computed.get(step, 0)
        line = f"  {step:<15} {measured.seconds:7.1f} s, {measured.cpu:6.1f} s CPU, {measured.memory:5.0f} MB"
        if calls:
            line += f", {calls:,} calls, {calls / measured.seconds:.0f}/s, {1000 * measured.cpu / calls:.2f} ms each"
        print(line)
    report(steps["resumed"].output, answers, share, photos, done)


def report(resumed: str, answers: Counter[str], share: float, photos: int, done: int) -> None:
    """Print what the kill lost, and fail if that is more than the calls in flight."""
    summary: dict[str, Any] = json.loads(resumed)
    twice = answers.total() - len(answers)
    print(f"  {done:,} stored at the kill, {twice} calls paid again; servers busy for {share:.0%}, with the restart")
    if len(answers) != photos or summary["statuses"] != {"ok": photos} or summary["computed"] != photos - done:
        raise SystemExit(f"lost: {len(answers)} of {photos} answered, {summary['statuses']}")
    if twice > SERVERS * SLOTS:
        raise SystemExit(f"{twice} calls were paid again, more than {SERVERS * SLOTS} in flight")


def main() -> None:
    """Run the part that the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleet", action="store_true", help="eight servers, some of which fail")
    parser.add_argument("--photos", type=int, help="number of photos of a catalogue, or of --fleet")
    parser.add_argument("--side", type=int, default=128, help="width and height of these photos in pixels")
    arguments = parser.parse_args()
    if arguments.fleet:
        measure_fleet(arguments.photos or 4000, arguments.side)
    elif arguments.photos:
        measure_catalogue(arguments.photos, arguments.side)
    else:
        compare_throughput()


if __name__ == "__main__":
    main()
