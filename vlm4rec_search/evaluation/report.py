"""One self-contained HTML page: what was compared, how sure it is, where it holds, and what it looks like."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.pages import write_page
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Ints
from vlm4rec_search.datasets.photos.decode import thumbnail_url
from vlm4rec_search.datasets.photos.locate import locate_photos
from vlm4rec_search.evaluation.paper import CAVEAT, beside_paper, effect
from vlm4rec_search.evaluation.results import SLICED, Results, Row
from vlm4rec_search.evaluation.run import NOT_CHOSEN, Comparison, Evaluation, Outcome, is_unchosen
from vlm4rec_search.evaluation.significance import SIGNIFICANT

LEGEND = Path(__file__).with_name("legend.yaml")
TICKS = 5  # of a forest plot; the page draws it


@dataclass(frozen=True)
class Mark:
    """One system: the ends and the middle of its interval in percent of the width, and the numbers in words."""

    label: str
    low: float
    middle: float
    high: float
    text: str


@dataclass(frozen=True)
class Forest:
    """A plot: marks, and ticks (percent of the width, label)."""

    metric: str
    marks: list[Mark]
    ticks: list[tuple[float, str]]


def forest(rows: Sequence[Row], metric: str) -> Forest:
    """Return the plot of a metric's intervals, best system first; rows without an interval are left out.

    Args:
        rows: of one comparison.
        metric: such as nDCG@10.
    """
    drawn = [(row, row.value, row.low, row.high) for row in rows if row.metric == metric]
    sure = [(row, value, low, high) for row, value, low, high in drawn if None not in (value, low, high)]
    sure.sort(key=lambda one: -(one[1] or 0.0))
    largest = max((high or 0.0 for *_, high in sure), default=0.0) or 1.0
    step = _step(largest)
    end = step * math.ceil(largest / step)

    def x(value: float | None) -> float:
        return round(100.0 * (value or 0.0) / end, 2)

    marks = [
        Mark(row.system, x(low), x(value), x(high), f"{value:.4f} [{low:.4f}, {high:.4f}]")
        for row, value, low, high in sure
    ]
    ticks = [(x(step * number), f"{step * number:g}") for number in range(round(end / step) + 1)]
    return Forest(metric, marks, ticks)


def _step(largest: float) -> float:
    """Return 1, 2 or 5 times a power of ten, such that about `TICKS` steps reach the largest value."""
    rough = largest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999))


# A few users for the report: photos of what they had, and what two systems put first.

USERS, SHOWN = 4, 6
SIDE = 96


@dataclass(frozen=True)
class Shown:
    """One item: title, photo as a data URL (empty without one), whether it was to be found, and why it is there."""

    title: str
    photo: str
    found: bool = False
    why: str = ""


@dataclass(frozen=True)
class Example:
    """One user: the end of the history, oldest first, and the top of each list by system."""

    user: str
    history: list[Shown]
    lists: dict[str, list[Shown]]


def examples(evaluation: Evaluation, systems: Sequence[str], settings: Settings) -> list[Example]:
    """Return a few users, drawn by the seed among those whose lists hold something that was to be found.

    Where these are fewer than `USERS`, all take part in the draw.

    Args:
        evaluation: users and lists of its first comparison, and the systems that give reasons.
        systems: two names.
        settings: where photos and their cache are.
    """
    comparison = evaluation.comparisons[0]
    outcomes = [outcome for outcome in comparison.outcomes if outcome.system in systems]
    rows = _pick(comparison, outcomes)
    needed = sorted({int(item) for row in rows for item in (*_history(comparison, row), *_tops(outcomes, row))})
    photos = _photos(comparison, needed, settings)
    return [_example(evaluation, outcomes, row, photos) for row in rows]


def _pick(comparison: Comparison, outcomes: list[Outcome]) -> list[int]:
    relevant = comparison.part.targets.relevant
    hits = np.zeros(relevant.shape[0])
    for outcome in outcomes:
        tops = outcome.ranking[:, :SHOWN]
        rows = np.repeat(np.arange(len(tops)), tops.shape[1])
        hits += (relevant[rows, np.maximum(tops.ravel(), 0)] * (tops.ravel() >= 0)).reshape(tops.shape).sum(axis=1)
    some = np.flatnonzero(hits > 0)
    pool = some if len(some) >= USERS else np.arange(len(hits))
    draw = np.random.default_rng(comparison.part.split.seed)
    return sorted(int(row) for row in draw.choice(pool, min(USERS, len(pool)), replace=False))


def _history(comparison: Comparison, row: int) -> list[int]:
    """Return the last different items of a user, oldest first."""
    split = comparison.part.split
    items = split.items[split.users == comparison.part.targets.users[row]][::-1].tolist()
    return list(dict.fromkeys(items))[:SHOWN][::-1]


def _tops(outcomes: list[Outcome], row: int) -> Ints:
    tops = np.concatenate([outcome.ranking[row, :SHOWN] for outcome in outcomes])
    return tops[tops >= 0]


def _photos(comparison: Comparison, items: list[int], settings: Settings) -> dict[int, str]:
    """Return small photos as data URLs by item; items whose photo cannot be read have none."""
    images = comparison.part.split.catalogue.images
    with Cache(settings.cache) as cache:
        found = locate_photos([images[item] for item in items], settings.data_dir, cache)
    return {item: url for item, one in zip(items, found, strict=True) if (url := thumbnail_url(one, SIDE))}


def _example(evaluation: Evaluation, outcomes: list[Outcome], row: int, photos: dict[int, str]) -> Example:
    comparison = evaluation.comparisons[0]
    split, targets = comparison.part.split, comparison.part.targets
    user = int(targets.users[row])
    wanted = set(targets.relevant.indices[targets.relevant.indptr[row] : targets.relevant.indptr[row + 1]].tolist())

    def show(item: int, why: str = "", found: bool = False) -> Shown:
        return Shown(str(split.catalogue.titles[item]), photos.get(item, ""), found, why)

    lists = {}
    for outcome in outcomes:
        items = outcome.ranking[row, :SHOWN]
        items = items[items >= 0]
        reasons = evaluation.fitted[outcome.system].reasons(user, items)
        pairs = zip(items.tolist(), reasons, strict=True)
        lists[outcome.system] = [show(item, why, item in wanted) for item, why in pairs]
    return Example(str(split.user_ids[user]), [show(item) for item in _history(comparison, row)], lists)


BY = "nDCG@10"
COLUMNS = (
    "R@10", "nDCG@10", "MRR@10", "MAP@10", "HR@10", "Coverage@10", "TopShare@1", "Ubiquitous@10", "Tail@10",
    "Novelty@10", "Diversity@10", "PopularityBias@10",
)  # fmt: skip


@dataclass(frozen=True)
class Chapter:
    """One evaluation of the page.

    Attributes:
        world: of the built-in shop, empty for the tables of the warehouse.
        settings: where its photos are.
    """

    world: str
    results: Results
    evaluation: Evaluation
    settings: Settings


def write_report(path: Path, chapters: Sequence[Chapter]) -> None:
    """Write the page.

    Raises:
        OSError: the file cannot be written.
    """
    legend = yaml.safe_load(LEGEND.read_text("utf-8"))
    write_page(
        path,
        "vlm4rec_search.evaluation",
        "report.html",
        chapters=[_fill(chapter, legend["systems"]) for chapter in chapters],
        columns=COLUMNS,
        metrics=legend["metrics"],
        by=BY,
        not_chosen=NOT_CHOSEN,
        fewest=USERS,
        caveat=CAVEAT,
    )


def _fill(chapter: Chapter, meanings: Mapping[str, str]) -> dict[str, object]:
    """Return what the template shows of a chapter; systems of other packages have no meaning here."""
    results, evaluation = chapter.results, chapter.evaluation
    whole = evaluation.comparisons[0]
    ranked = best_first([row for row in results.rows if not row.is_bound], whole.on)
    return {
        "world": chapter.world,
        "protocol": results.protocol,
        "verdict": _verdict(results, ranked),
        "legend": {name: meanings[name] for name in sorted({row.system for row in results.rows}) if name in meanings},
        "effect": effect(results),
        "is_unchosen": any(is_unchosen(row.setting) for row in results.rows),
        "sections": [_section(results.rows, comparison.on) for comparison in evaluation.comparisons],
        "paper": [row for row in beside_paper(results.rows, whole.on) if row.ndcg is not None],
        "slices": _slices(results.slices, best_first(results.rows, whole.on)),
        "differences": results.differences[BY],
        "examples": examples(evaluation, [row.system for row in ranked[:2]], chapter.settings),
    }


def best_first(rows: Sequence[Row], on: str) -> list[Row]:
    """Return the nDCG@10 row of each system of a comparison, best first."""
    chosen = [row for row in rows if row.on == on and row.metric == BY and row.value is not None]
    return sorted(chosen, key=lambda row: -(row.value or 0.0))


def _verdict(results: Results, ranked: list[Row]) -> str:
    """Say in one sentence which system is best, and from how many others it can be told."""
    if not ranked or ranked[0].low is None or ranked[0].high is None:
        return ""
    best = ranked[0]
    setting = f" ({best.setting})" if best.setting else ""
    text = (
        f"{best.system}{setting} finds best what users took next: {BY} {best.value:.4f}, 95% interval {best.low:.4f} to"
        f" {best.high:.4f}"
    )
    against = {
        ({one.a, one.b} - {best.system}).pop(): one for one in results.differences[BY] if best.system in (one.a, one.b)
    }
    close = [row.system for row in ranked[1:] if against[row.system].corrected >= SIGNIFICANT]
    if not against:
        return f"{text}."
    if not close:
        return f"{text}, significantly better than {'the other system' if len(against) == 1 else 'every other system'}."
    runner_up = against[close[0]]
    return (
        f"{text}, significantly better than {len(against) - len(close)} of the {len(against)} other systems; its lead"
        f" over {close[0]}, {abs(runner_up.difference):.4f}, may be chance (p = {runner_up.corrected:.2g})."
    )


def _section(rows: Sequence[Row], on: str) -> dict[str, object]:
    here = [row for row in rows if row.on == on]
    systems = [row.system for row in best_first(here, on)]
    cells = {(row.system, row.metric): row for row in here}
    plots: list[Forest] = [forest(here, metric) for metric in SLICED]
    settings = {row.system: row.setting for row in here}
    facts = {"users": here[0].users, "items": here[0].items} if here else {}
    return {"on": on, "systems": systems, "cells": cells, "plots": plots, "settings": settings, **facts}


def _slices(rows: Sequence[Row], ranked: list[Row]) -> dict[str, object]:
    names = list(dict.fromkeys(row.slice for row in rows))
    users = {row.slice: row.users for row in rows}
    cells = {(row.system, row.slice): row for row in rows if row.metric == BY}
    return {"names": names, "users": users, "cells": cells, "systems": [row.system for row in ranked]}
