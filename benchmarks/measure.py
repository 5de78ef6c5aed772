"""Times several ways of doing the same work in alternating rounds."""

import cProfile
import pstats
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

Costs = list[tuple[str, float]]
"""What a way spends its time on: name and share of the whole."""
_WRAPPER = 0.8  # a function with one callee of such a share only hands on
_SMALL = 0.01  # a smaller share is no cost to name


@dataclass(frozen=True)
class Value:
    """What an act has measured itself, in place of the time that it took: seconds, bytes."""

    value: float


Act = Callable[[], object]


@dataclass(frozen=True)
class Way:
    """One way to do the work.

    Attributes:
        act: does it once; the clock runs unless it returns a `Value`.
        per: units of work in one act, by which the value is divided.
        costs: returns the top costs; by default one more act is profiled.
        warm: whether an act before the first round is of use.
    """

    act: Act
    per: int
    costs: Callable[[], Costs] | None
    warm: bool


@dataclass
class Contest:
    """Ways of doing the same work, and which of them are compared.

    Attributes:
        rounds: the fewest and the most.
        seconds: no further round begins after these, once the fewest are done.
    """

    rounds: tuple[int, int] = (3, 9)
    seconds: float = 20.0
    ways: dict[str, Way] = field(default_factory=dict)
    pairs: list[tuple[str, str, str, str]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def ours(
        self, name: str, act: Act, *, per: int = 1, costs: Callable[[], Costs] | None = None, warm: bool = True
    ) -> None:
        """Add a way."""
        self.ways[name] = Way(act, per, costs, warm)

    def rival(
        self,
        name: str,
        make: Callable[[], Act],
        against: Sequence[str],
        *,
        per: int = 1,
        unit: str = "s",
        note: str | Callable[[], str] = "",
        warm: bool = True,
    ) -> None:
        """Add what ours is compared with; where it cannot be made, the report says so.

        Args:
            name: of the rival.
            make: prepares the work and returns the act.
            against: names of our ways.
            per: units of work in one act.
            unit: s or bytes.
            note: what a reader of the ratio has to know, such as the recall.
            warm: whether an act before the first round is of use.
        """
        try:
            self.ways[name] = Way(make(), per, no_costs, warm)
        except Exception as error:  # a rival may fail in any way, which is no reason to measure nothing
            self.missing[name] = f"{type(error).__name__}: {one_line(error)}"
            return
        self.compare(against, name, unit=unit, note=note() if callable(note) else note)

    def compare(self, against: Sequence[str], other: str, *, unit: str = "s", note: str = "") -> None:
        """Compare some ways with another one of the same contest."""
        self.pairs += [(name, other, unit, note) for name in against]


@dataclass(frozen=True)
class Figure:
    """A ratio of two ways: ours divided by the other, so that less than 1 is faster or smaller.

    Attributes:
        path, rival: the two ways.
        unit: s or bytes.
        ours, theirs: medians over the rounds.
        ratio, low, high: median, smallest and largest ratio of a round.
        rounds: number of them.
        costs: the largest costs of ours, with their share.
        note: what a reader of the ratio has to know.
    """

    path: str
    rival: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    rounds: int
    costs: Costs
    note: str


def run(contest: Contest, profiled: bool = True) -> dict[str, Any]:
    """Measure a contest and return its figures and what is missing, as JSON has them.

    The order of the ways turns by one each round, so that none always follows the same other one.
    """
    values: dict[str, list[float]] = {name: [] for name in contest.ways}
    failed: dict[str, str] = {}
    for name, way in contest.ways.items():
        if way.warm:
            _attempt(name, way, failed)
    started, number = time.perf_counter(), 0
    while number < contest.rounds[0] or (
        number < contest.rounds[1] and time.perf_counter() - started < contest.seconds
    ):
        names = [name for name in contest.ways if name not in failed]
        for name in [*names[number % len(names) :], *names[: number % len(names)]] if names else []:
            value = _attempt(name, contest.ways[name], failed)
            if value is not None:
                values[name].append(value)
        number += 1
    spent = {
        name: find_costs(way)
        for name, way in contest.ways.items()
        if profiled and name not in failed and any(name == pair[0] for pair in contest.pairs)
    }
    figures = [
        asdict(paired(ours, theirs, unit, values[ours], values[theirs], spent.get(ours, []), note))
        for ours, theirs, unit, note in contest.pairs
        if not {ours, theirs} & failed.keys()
    ]
    return {"figures": figures, "missing": contest.missing | failed}


def _attempt(name: str, way: Way, failed: dict[str, str]) -> float | None:
    """Return the value of one act, or None and the reason in `failed`."""
    if name in failed:
        return None
    started = time.perf_counter()
    try:
        result = way.act()
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {one_line(error)}"
        return None
    seconds = time.perf_counter() - started
    return (result.value if isinstance(result, Value) else seconds) / way.per


def paired(
    path: str, rival: str, unit: str, ours: Sequence[float], theirs: Sequence[float], costs: Costs, note: str
) -> Figure:
    """Return the figure of the values of all rounds; the ratio is taken within each round."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    middle = median(ratios)
    return Figure(
        path,
        rival,
        unit,
        median(ours),
        median(theirs),
        middle,
        min(ratios),
        max(ratios),
        len(ratios),
        costs,
        note,
    )


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float | None:
    """Return b of the fit value = a x size^b, None for fewer than two sizes."""
    if len(set(sizes)) < 2:
        return None
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    return float(slope)


def find_costs(way: Way) -> Costs:
    """Return the largest three costs of a way."""
    if way.costs is not None:
        return way.costs()[:3]
    profile = cProfile.Profile()
    profile.runcall(way.act)
    return called(profile)[:3]


def no_costs() -> Costs:
    """Return nothing: the costs of a rival are not looked for."""
    return []


def called(profile: cProfile.Profile) -> Costs:
    """Return the callees of the first function that does more than hand on, largest share of the time first.

    The shares are of the cumulative time of the whole profile; what other threads do appears as waiting.
    """
    entries: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    below: dict[Any, list[tuple[float, Any]]] = {}
    for function, (_, _, _, _, callers) in entries.items():
        for caller, (_, _, _, spent) in callers.items():
            below.setdefault(caller, []).append((spent, function))
    roots = [function for function, entry in entries.items() if not entry[4]]
    if not roots:
        return []
    at = max(roots, key=lambda function: entries[function][3])
    whole, seen = entries[at][3] or 1e-9, {at}
    while steps := sorted((step for step in below.get(at, []) if step[1] not in seen), key=lambda step: -step[0]):
        if steps[0][0] < _WRAPPER * whole:
            break
        at = steps[0][1]
        seen.add(at)
    parts = [(label(function), spent / whole) for spent, function in below.get(at, [])]
    parts.append((f"{label(at)} itself", entries[at][2] / whole))
    parts = [(name, round(min(share, 1.0), 3)) for name, share in parts if share >= _SMALL]
    return sorted(parts, key=lambda part: -part[1])


def label(function: tuple[str, int, str]) -> str:
    """Return file and name of a profiled function; built-in ones have no file."""
    file, _, name = function
    if file == "~":
        return name.removeprefix("<").removesuffix(">").replace("built-in method ", "").replace("method ", "")
    return f"{Path(file).stem}.{name}"


def one_line(error: Exception) -> str:
    """Return the first line of an error."""
    return (str(error).strip().splitlines() or [""])[0][:200]
