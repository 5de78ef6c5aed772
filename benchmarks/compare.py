"""Compares this tree with another commit: the same benchmarks, in processes that take turns."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

Measure = Callable[..., dict[str, Any]]


@contextmanager
def tree_of(revision: str, project: Path) -> Iterator[Path]:
    """Yield a work tree of a commit that has the benchmarks of this one; it is removed afterwards."""
    with TemporaryDirectory(prefix="vlm4rec-compare-") as name:
        tree = Path(name) / "tree"
        _git(project, "worktree", "add", "--detach", "--quiet", str(tree), revision)
        try:
            shutil.rmtree(tree / "benchmarks", ignore_errors=True)
            shutil.copytree(project / "benchmarks", tree / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
            yield tree
        finally:
            _git(project, "worktree", "remove", "--force", str(tree))


def _git(project: Path, *arguments: str) -> None:
    done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise SystemExit(f"git {arguments[0]}: {done.stderr.strip()}")


def first_ratios(measured: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Return the first rival of each way and the ratio to it."""
    found: dict[str, tuple[str, float]] = {}
    for figure in measured["figures"]:
        found.setdefault(figure["path"], (figure["rival"], figure["ratio"]))
    return found


def growth(now: Sequence[Mapping[str, Any]], then: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the ratio now divided by that of then, each turn, of each way that both sides measured alike."""
    changes: dict[str, list[float]] = {}
    for new, old in zip(now, then, strict=True):
        after, before = first_ratios(new), first_ratios(old)
        for path in after.keys() & before.keys():
            if after[path][0] == before[path][0]:
                changes.setdefault(path, []).append(after[path][1] / before[path][1])
    return changes


def compare(
    revision: str, sizes: Mapping[str, Sequence[int]], turns: int, limit: float, measure: Measure, project: Path
) -> int:
    """Print how the ratios of this tree differ from those of a commit.

    Returns:
        1 if a way was slower in every turn with a median above the limit, or is not measured any more; else 0.
    """
    failed = []
    with tree_of(revision, project) as tree:
        print(f"ratio of this tree / ratio of {revision}, {turns} turns; above {limit:g} fails")
        for name, numbers in sizes.items():
            for size in numbers:
                sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
                for turn in range(turns):
                    for side in (0, 1) if turn % 2 else (1, 0):
                        sides[side].append(measure(name, size, (project, tree)[side], profiled=False))
                changes = growth(*sides)
                for path, values in sorted(changes.items()):
                    middle = median(values)
                    print(
                        f"  {name} {size:,} {path}: {middle:.2f} ({min(values):.2f} to {max(values):.2f})", flush=True
                    )
                    failed += [f"{name} {path}"] * (middle > limit and min(values) > 1.0)
                for label, turns_of in (("this tree", sides[0]), (revision, sides[1])):
                    for rival, reason in turns_of[0]["missing"].items():
                        print(f"  {name} {size:,}: not measured in {label}: {rival}: {reason}", flush=True)
                lost = {path for old in sides[1] for path in first_ratios(old)} - changes.keys()
                failed += [f"{name} {path} (not measured any more)" for path in sorted(lost)]
    print(f"slower: {', '.join(failed)}" if failed else "no ratio grew above the limit")
    return int(bool(failed))
