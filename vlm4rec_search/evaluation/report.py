"""One self-contained HTML page: what was compared, how sure it is, where it holds, and what it looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.examples import examples
from vlm4rec_search.evaluation.forest import Forest, forest
from vlm4rec_search.evaluation.paper import CAVEAT, beside_paper, effect
from vlm4rec_search.evaluation.results import SLICED, Results, Row
from vlm4rec_search.evaluation.run import Evaluation

BY = "nDCG@10"
COLUMNS = (
    "R@10", "nDCG@10", "MRR@10", "MAP@10", "HR@10", "Coverage@10", "Novelty@10", "Diversity@10", "PopularityBias@10",
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
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("vlm4rec_search.evaluation"), autoescape=True)
    environment.filters["number"] = _number
    filled = [_fill(chapter) for chapter in chapters]
    page = environment.get_template("report.html").render(chapters=filled, columns=COLUMNS, by=BY, caveat=CAVEAT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _fill(chapter: Chapter) -> dict[str, object]:
    """Return what the template shows of a chapter."""
    results, evaluation = chapter.results, chapter.evaluation
    whole = evaluation.comparisons[0]
    ranked = best_first(results.rows, whole.on)
    return {
        "world": chapter.world,
        "protocol": results.protocol,
        "best": ranked[0] if ranked else None,
        "runner_up": _runner_up(results, ranked),
        "effect": effect(results),
        "sections": [_section(results.rows, comparison.on) for comparison in evaluation.comparisons],
        "paper": [row for row in beside_paper(results.rows, whole.on) if row.ndcg is not None],
        "slices": _slices(results.slices, ranked),
        "differences": results.differences[BY],
        "examples": examples(evaluation, [row.system for row in ranked[:2]], chapter.settings),
    }


def best_first(rows: Sequence[Row], on: str) -> list[Row]:
    """Return the nDCG@10 row of each system of a comparison, best first."""
    chosen = [row for row in rows if row.on == on and row.metric == BY and row.value is not None]
    return sorted(chosen, key=lambda row: -(row.value or 0.0))


def _runner_up(results: Results, ranked: list[Row]) -> str:
    """Say whether the best system is better than the second for sure."""
    if len(ranked) < 2:
        return ""
    first, second = ranked[0].system, ranked[1].system
    one = next(one for one in results.differences[BY] if {one.a, one.b} == {first, second})
    sure = "is" if one.corrected < 0.05 else "is not"
    lead = f"Its lead over {second}, {abs(one.difference):.4f}"
    return f"{lead}, {sure} significant (p = {one.corrected:.3g} after Holm's correction)."


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


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"
