"""Runs commands in processes of their own, with time and peak memory; cold starts."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Contest, Costs, Value

PROJECT = Path(__file__).parents[1]
# Not by `python -c`: PySpark, which Great Expectations imports, takes that for its doctests and ends the process.
VLM4REC = (sys.executable, str(Path(sys.executable).with_name("vlm4rec")))
SQLMESH = (sys.executable, str(Path(sys.executable).with_name("sqlmesh")))
PLAN = (*SQLMESH, "plan", "--auto-apply", "--no-prompts", "--skip-tests")
SETTINGS = {"VLM4REC_DATA_DIR": "data", "VLM4REC_ENCODER": "hashing-384", "VLM4REC_IMAGE_ENCODER": "thumbnail-8"}

# A small process between: the peak memory of a process counts that of the one that started it.
RUNNER = """
import json, resource, subprocess, sys, threading, time
anonymous = 0
def watch(process):
    global anonymous
    try:
        while True:
            status = open(f"/proc/{process}/status").read()
            anonymous = max(anonymous, int(status.partition("RssAnon:")[2].split()[0]))
            time.sleep(0.05)
    except (OSError, IndexError):
        pass  # it has ended
started = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
threading.Thread(target=watch, args=(process.pid,), daemon=True).start()
output, _ = process.communicate()
seconds, usage = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
answer = {"code": process.returncode, "seconds": seconds, "output": output}
json.dump(answer | {"peak": usage.ru_maxrss * 1024, "anonymous": anonymous * 1024}, open(sys.argv[1], "w"))
"""


@dataclass(frozen=True)
class Finished:
    """A command that ran.

    Attributes:
        seconds: that it took.
        peak: largest resident set of its processes, bytes.
        anonymous: largest memory of its first process that no file backs, bytes, looked at every 50 ms.
        output: stdout and stderr.
    """

    seconds: float
    peak: int
    anonymous: int
    output: str


def execute(command: Sequence[str], folder: Path, settings: Mapping[str, str] = SETTINGS) -> Finished:
    """Run a command in a folder, with these settings and no others.

    Raises:
        RuntimeError: it failed.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VLM4REC_")}
    with tempfile.TemporaryDirectory() as name:
        into = Path(name) / "answer"
        runner = [sys.executable, "-c", RUNNER, str(into), *command]
        environment = inherited | {**settings}
        with subprocess.Popen(runner, cwd=folder, env=environment, start_new_session=True) as process:  # noqa: S603
            try:
                code = process.wait()
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # else the command would go on without its folder
                raise
        if code:
            raise RuntimeError(f"the process that ran {command[2:]} ended with {code}")
        answer = json.loads(into.read_text("utf-8"))
    if answer["code"]:
        last = (answer["output"].strip().splitlines() or [""])[-1]
        raise RuntimeError(f"{' '.join(command[2:])} ended with {answer['code']}: {last}")
    return Finished(answer["seconds"], answer["peak"], answer["anonymous"], answer["output"])


def project_in(folder: Path) -> Path:
    """Write a project with `vlm4rec init`, as users do, and return its folder."""
    execute((*VLM4REC, "init", folder.name), folder.parent)
    (folder / "data").mkdir(exist_ok=True)
    return folder


def import_costs(command: Sequence[str], folder: Path) -> Costs:
    """Return the packages whose modules take longest to import, themselves without what they import."""
    started = execute([command[0], "-X", "importtime", *command[1:]], folder)
    own: Counter[str] = Counter()
    for microseconds, module in re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", started.output):
        own[module.split(".")[0]] += int(microseconds)
    return [(f"import {name}", round(spent / 1e6 / started.seconds, 3)) for name, spent in own.most_common(3)]


def until_ready(folder: Path) -> Value:
    """Return the seconds from the start of a service until it answers that it is ready."""
    command = [*VLM4REC, "-q", "serve", "--port", "0"]
    started = time.perf_counter()
    with subprocess.Popen(  # noqa: S603  our own command
        command, cwd=folder, env=os.environ | SETTINGS, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stderr.readline() if process.stderr else ""
            port = int(line.rsplit(":", 1)[1].split("/")[0])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            while True:
                connection.request("GET", "/readyz")
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    return Value(time.perf_counter() - started)
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def starting(_: int) -> Iterator[Contest]:
    """Start every command; the shop of the second list has 80 items and 4,000 interactions."""
    from benchmarks.plan import write_shop
    from vlm4rec_search.cli import COMMANDS

    with tempfile.TemporaryDirectory() as name:
        shop = project_in(Path(name) / "shop")
        write_shop(shop / "data", 4_000)
        execute(PLAN, shop)
        execute((*VLM4REC, "index", "--force", "--no-choose"), shop)
        least = {
            "vlm4rec search --user": (*VLM4REC, "search", "--user", "u1"),
            "vlm4rec similar": (*VLM4REC, "similar", "--item", "i00001"),
            "vlm4rec recommend, one shopper": (*VLM4REC, "recommend", "--users", "users.txt", "--to", "r.parquet"),
            "vlm4rec releases list": (*VLM4REC, "releases", "list"),
            "vlm4rec doctor": (*VLM4REC, "doctor"),
            "vlm4rec ledger": (*VLM4REC, "ledger"),
            "vlm4rec queries list": (*VLM4REC, "queries", "list"),
            "vlm4rec captions estimate": (*VLM4REC, "captions", "estimate"),
            "vlm4rec index, no change": (*VLM4REC, "index", "--force", "--no-choose"),
            "sqlmesh plan, no change": PLAN,
        }
        (shop / "users.txt").write_text("u1\n", "utf-8")
        contest = Contest(rounds=(3, 3))
        helps = {f"vlm4rec {command} --help": (*VLM4REC, command, "--help") for command in COMMANDS}
        helps |= {"vlm4rec --help": (*VLM4REC, "--help"), "sqlmesh --help": (*SQLMESH, "--help")}
        for title, command in (helps | least).items():
            contest.ours(
                title,
                lambda c=command: Value(execute(c, shop).seconds),  # type: ignore[misc]
                costs=lambda c=command: [] if c[-1] == "--help" else import_costs(c, shop),  # type: ignore[misc]
                warm=title in least,
            )
        contest.ours("vlm4rec serve until ready", lambda: until_ready(shop), costs=lambda: [])
        contest.rival(
            "python -c pass",
            lambda: lambda: Value(execute((sys.executable, "-c", "pass"), shop).seconds),
            list(contest.ways),
        )
        yield contest
