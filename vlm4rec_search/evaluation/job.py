"""The whole job of `vlm4rec evaluate`: build the parts, run the systems, keep the results, write the page."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.report import write_report
from vlm4rec_search.evaluation.results import Results, summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import build_parts
from vlm4rec_search.evaluation.store import save
from vlm4rec_search.evaluation.systems import load_systems
from vlm4rec_search.progress import bar
from vlm4rec_search.settings import Settings


def run_evaluation(
    settings: Settings, protocol: Protocol, names: Sequence[str], report: Path | None, say: Callable[[str], None]
) -> Results:
    """Evaluate systems on the tables of the warehouse, add the run to the results file and write the report.

    Args:
        settings: warehouse, data folder, cache and results file.
        protocol: the rules.
        names: of the systems; none for all.
        report: HTML file to write, or None.
        say: told each long step.

    Raises:
        UsageError: an unknown system, no tables yet, or nobody to ask.
        RunError: the warehouse is being written, a plan fails, or the results cannot be written.
        OSError: the report cannot be written.
    """
    for path in (settings.results, *([report] if report else [])):
        path.parent.mkdir(parents=True, exist_ok=True)  # told before the work, not after it
    systems = load_systems(names)
    needs = frozenset[str]().union(*(system.needs for system in systems))
    choose = any(len(system.variants()) > 1 for system in systems)
    parts = build_parts(settings, protocol, needs, choose, say)
    with bar("systems", len(systems)) as advance:
        evaluation = evaluate(parts, systems, lambda name: advance(1))
    say("Computing intervals and slices")
    results = summarise(evaluation, protocol.to_json(), protocol.seed)
    save(results, evaluation, settings.results)
    if report:
        write_report(report, results, evaluation, settings)
    return results
