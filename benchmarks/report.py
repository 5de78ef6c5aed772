"""The report: results.json keeps every figure, results.md shows them."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measure import exponent
from benchmarks.rooms import ROOMS, Room

RESULTS = Path(__file__).with_name("results.json")
PACKAGES = (
    "duckdb", "sqlmesh", "numpy", "scipy", "pyarrow", "onnxruntime", "torch", "sentence-transformers", "opensearch-py",
    "implicit", "bm25s", "usearch", "hnswlib", "lancedb", "duckdb-extension-vss", "duckdb-extension-fts",
)  # fmt: skip

# What a multiple of a measured value comes to: title, room, way, multiple, divisor, unit.
CALCULATED = (
    ("a million texts encoded", "text", "MiniLMEncoder.encode", 1e6, 3600.0, "hours"),
    ("a million photos read, sent and stored by the caption pipeline", "captions", "pipeline", 1e6, 3600.0, "hours"),
    ("a million documents loaded into OpenSearch", "load", "load", 1e6, 3600.0, "hours"),
    ("a thousand searches with a text, embedded", "search", "hybrid", 1e3, 1.0, "seconds"),
    ("a thousand searches for a shopper, embedded", "search", "shopper, 6 retrievers", 1e3, 1.0, "seconds"),
    ("a thousand searches for a shopper, OpenSearch", "opensearch", "hybrid", 1e3, 1.0, "seconds"),
    ("a thousand answers over HTTP, one after the other", "service", "over HTTP", 1e3, 1.0, "seconds"),
    ("a million shoppers recommended to", "batch", "recommend", 1e6, 3600.0, "hours"),
)

Entry = dict[str, Any]


class Results:
    """The figures of all runs in a file; each room and size is replaced as a whole."""

    def __init__(self, path: Path = RESULTS) -> None:
        """Read the file, if there is one."""
        self.path = path
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.runs: dict[str, Entry] = kept.get("runs", {})
        self.figures: list[Entry] = kept.get("figures", [])
        self.missing: list[Entry] = kept.get("missing", [])

    def has(self, room: str, size: int) -> bool:
        """Return whether a room was measured at a size."""
        return any(figure["room"] == room and figure["size"] == size for figure in self.figures)

    def replace(self, room: str, size: int, measured: Entry, run: str, machine: Entry, load: float) -> None:
        """Put what was measured in the place of the earlier figures, and write the file and the report.

        Args:
            room: name of the room.
            size: of the work.
            measured: figures, and rivals that are missing with the reason.
            run: moment at which the run began.
            machine: from `describe_machine`.
            load: load average before the room was measured.
        """

        def others(rows: Iterable[Entry]) -> list[Entry]:
            return [row for row in rows if (row["room"], row["size"]) != (room, size)]

        place = {"room": room, "size": size, "run": run, "load": load}
        self.figures = others(self.figures) + [place | figure for figure in measured["figures"]]
        missing = [place | {"rival": name, "reason": reason} for name, reason in measured["missing"].items()]
        self.missing = others(self.missing) + missing
        used = {row["run"] for row in (*self.figures, *self.missing)}
        self.runs = {name: about for name, about in (self.runs | {run: machine}).items() if name in used}
        self.write()

    def write(self) -> None:
        """Write the JSON file in one step, and the report beside it."""
        content = {"runs": self.runs, "figures": self.figures, "missing": self.missing}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        part.replace(self.path)
        self.path.with_suffix(".md").write_text(render(self), "utf-8")


def now() -> str:
    """Return the name of a run: the moment in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M")


def describe_machine(project: Path) -> Entry:
    """Return cores, memory, load, versions and commit, without a name of the machine or a path."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    model = [line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal")]
    return {
        "cores": os.cpu_count(),
        "processor": model[0] if model else platform.machine(),
        "memory_gib": round(memory[0] / 2**20, 1) if memory else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "load_at_start": round(os.getloadavg()[0], 2),
        "commit": commit_of(project),
        "versions": versions,
    }


def commit_of(project: Path) -> str:
    """Return the short name of the commit of a work tree, with `-dirty` where files but the report have changed."""
    git = ["git", "-C", str(project)]
    others = ["status", "--porcelain", "--", ".", ":!benchmarks/results.*"]
    try:
        commit, changed = (
            subprocess.run([*git, *arguments], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
            for arguments in (["rev-parse", "--short", "HEAD"], others)
        )
        return f"{commit}-dirty" if changed else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError:
        return []


def render(results: Results) -> str:
    """Return the report as Markdown."""
    parts = [
        "# Benchmarks",
        "`make bench` and `make bench-large` write this page from `results.json`; do not edit it.",
        "A ratio is ours divided by the other in the same round, on the same work: less than 1 is faster or smaller. "
        "It is the median over the rounds, with the smallest and the largest beside it; the order of the ways turns "
        "each round. The values of ours and of the other are medians, per unit of work. The load average before a "
        "room says how busy the machine was: above the number of cores, look at the ratios and not at the times.",
        "Growth is the exponent b of value = a x size^b, fitted over the sizes. Where a value is for one text, photo "
        "or document out of as many as the size says, 0 is a cost in proportion to the size; elsewhere it is 1.",
        "## Machines",
        *_machines(results.runs),
    ]
    for room in ROOMS:
        figures = [figure for figure in results.figures if figure["room"] == room.name]
        missing = [entry for entry in results.missing if entry["room"] == room.name]
        if figures or missing:
            parts += _room(room, figures, missing)
    parts += _calculated(results.figures)
    absent = [room for room in ROOMS if not any(figure["room"] == room.name for figure in results.figures)]
    if absent:
        told = (f"- not measured: {room.title}, `python -m benchmarks {room.name}`" for room in absent)
        parts += ["## Not measured", "\n".join(told)]
    return "\n\n".join(parts) + "\n"


def _machines(runs: Mapping[str, Entry]) -> list[str]:
    """Return each machine once, with the runs on it; a run need not have had all packages."""
    machines: dict[str, list[str]] = {}
    for name, about in sorted(runs.items()):
        machine = (
            f"{about['cores']} cores ({about['processor']}), {about['memory_gib']} GiB, {about['system']}, Python "
            f"{about['python']}, OMP_NUM_THREADS {about['threads']}"
        )
        machines.setdefault(machine, []).append(name)
    return [f"{machine}.\n\n{_runs({name: runs[name] for name in names})}" for machine, names in machines.items()]


def _runs(runs: Mapping[str, Entry]) -> str:
    packages = dict.fromkeys(
        f"{package} {version}" for about in runs.values() for package, version in about["versions"].items()
    )
    rows = [f"| {name} UTC | {about['commit']} | {about['load_at_start']} |" for name, about in runs.items()]
    table = ["| run | commit | load average at its start |", "|---|---|---:|", *rows]
    return "\n".join([f"Packages: {', '.join(packages)}.", "", *table])


def _room(room: Room, figures: list[Entry], missing: list[Entry]) -> list[str]:
    rows = [
        f"| ours | other | {room.unit} | value of ours | of the other | ratio | spread | rounds | load | date |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|---|",
    ]
    pairs = list(dict.fromkeys((figure["path"], figure["rival"]) for figure in figures))
    for pair in pairs:
        for figure in sorted(_of(figures, *pair), key=lambda figure: figure["size"]):
            unit, note = figure["unit"], f" ({figure['note']})" if figure["note"] else ""
            rows.append(
                f"| {figure['path']} | {figure['rival']}{note} | {figure['size']:,} | {quantity(figure['ours'], unit)} "
                f"| {quantity(figure['theirs'], unit)} | **{short(figure['ratio'])}** "
                f"| {short(figure['low'])} to {short(figure['high'])} | {figure['rounds']} "
                f"| {figure['load']} | {figure['run']} |"
            )
    parts = [f"## {room.title}", room.work]
    if figures:
        parts.append("\n".join(rows))
    parts += [text for text in (_growth(pairs, figures), _costs(figures)) if text]
    if missing:
        told = (f"- not measured: {entry['rival']} at {entry['size']:,}: {entry['reason']}" for entry in missing)
        parts.append("\n".join(told))
    sizes = sorted({figure["size"] for figure in figures})
    parts.append(f"Repeat: `python -m benchmarks {room.name} --again --sizes {' '.join(map(str, sizes))}`")
    return parts


def _of(figures: Sequence[Entry], path: str, rival: str) -> list[Entry]:
    return [figure for figure in figures if (figure["path"], figure["rival"]) == (path, rival)]


def _growth(pairs: Sequence[tuple[str, str]], figures: Sequence[Entry]) -> str:
    """Return the fitted exponents of ours and of the others."""
    ours: dict[str, str] = {}
    others: dict[str, str] = {}
    for path, rival in pairs:
        found = _of(figures, path, rival)
        sizes = [figure["size"] for figure in found]
        for names, name, column in ((ours, path, "ours"), (others, rival, "theirs")):
            power = exponent(sizes, [figure[column] for figure in found])
            if power is not None:
                names.setdefault(name, f"{name} {power:.2f}")
    others = {name: power for name, power in others.items() if name not in ours}
    if not ours:
        return ""
    return f"Growth: {', '.join(ours.values())}; others: {', '.join(others.values())}."


def _costs(figures: Sequence[Entry]) -> str:
    """Return the top costs of each way at its largest size."""
    largest: dict[str, Entry] = {}
    for figure in sorted(figures, key=lambda figure: figure["size"]):
        if figure["costs"]:
            largest[figure["path"]] = figure
    return "\n".join(
        f"- top costs of {path} at {figure['size']:,}: "
        + ", ".join(f"`{name}` {100 * share:.0f}%" for name, share in figure["costs"])
        for path, figure in largest.items()
    )


def _calculated(figures: Sequence[Entry]) -> list[str]:
    """Return what a million or a thousand units take, from the value at the largest size."""
    rows = []
    for title, room, path, multiple, divisor, unit in CALCULATED:
        found = [figure for figure in figures if (figure["room"], figure["path"]) == (room, path)]
        if found:
            figure = max(found, key=lambda figure: figure["size"])
            value = figure["ours"] * multiple / divisor
            rows.append(
                f"| {title} | {room}, {figure['size']:,} | {quantity(figure['ours'], 's')} | {short(value)} {unit} |"
            )
    if not rows:
        return []
    text = (
        "Multiples of the values above, in one process: calculated, not measured. "
        "At a larger size a unit may take more, as the growth says."
    )
    header = "| what | from | value | comes to |\n|---|---|---:|---:|\n"
    return ["## Calculated from these figures", text, header + "\n".join(rows)]


def quantity(value: float, unit: str) -> str:
    """Return seconds or bytes with three digits in a readable unit."""
    steps = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if unit == "bytes" else ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    for step, name in steps:
        if value >= step or name == steps[-1][1]:
            return f"{short(value / step)} {name}"
    raise AssertionError("the last step takes every value")


def short(value: float) -> str:
    """Return a number with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
