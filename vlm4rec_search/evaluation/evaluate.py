"""The whole job of `vlm4rec evaluate`: build the parts, run the systems, keep the results, write the page."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.protocol import Protocol, given_cuts
from vlm4rec_search.evaluation.report import Chapter, write_report
from vlm4rec_search.evaluation.results import Results, summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.snapshots import built_world
from vlm4rec_search.evaluation.splits import build_parts
from vlm4rec_search.evaluation.store import save
from vlm4rec_search.evaluation.systems import load_systems

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is asked.

    Attributes:
        protocol: the rules.
        names: of the systems; none for all.
        worlds: of the built-in shop; none for the tables of the warehouse.
        report: HTML file to write, or None.
    """

    protocol: Protocol
    names: Sequence[str] = ()
    worlds: Sequence[str] = ()
    report: Path | None = None


def run_evaluation(settings: Settings, job: Job, say: Say) -> dict[str, Results]:
    """Evaluate systems, add each run to the results file and write one report.

    Args:
        settings: warehouse, data folder, cache and results file.
        job: what is asked.
        say: told each long step.

    Returns:
        Results by world; the one key is empty for the tables of the warehouse.

    Raises:
        UsageError: an unknown system, no tables yet, or nobody to ask.
        RunError: the warehouse is being written, a plan fails, or the results cannot be written.
        OSError: the report cannot be written.
    """
    for path in (settings.results, *([job.report] if job.report else [])):
        path.parent.mkdir(parents=True, exist_ok=True)  # told before the work, not after it
    load_systems(job.names)  # an unknown name is told before the work, too
    with ExitStack() as stack:
        chapters = []
        for world in dict.fromkeys(job.worlds or ("",)):
            seed = job.protocol.seed
            there = stack.enter_context(built_world(settings, world, seed, say)) if world else settings
            chapters.append(_evaluate(there, job, world, say))
        if job.report:
            write_report(job.report, chapters)
    return {chapter.world: chapter.results for chapter in chapters}


def _evaluate(settings: Settings, job: Job, world: str, say: Say) -> Chapter:
    systems = load_systems(job.names)
    needs = frozenset[str]().union(*(system.needs for system in systems))
    choose = any(system.learns or len(system.variants()) > 1 for system in systems)
    parts = build_parts(settings, job.protocol, needs, choose, say)
    with bar("systems", sum(len(system.copies()) for system in systems)) as advance:
        evaluation = evaluate(parts, systems, lambda name: advance(1))
    say("Computing intervals and slices")
    about = _protocol(settings, job.protocol) | ({"world": world} if world else {})
    if choose:
        about["validation_users"] = len(parts.validation.targets.users) if parts.validation else None
    results = summarise(evaluation, about, job.protocol.seed)
    save(results, evaluation, settings.results)
    return Chapter(world, results, evaluation, settings)


def _protocol(settings: Settings, protocol: Protocol) -> dict[str, object]:
    """Return the rules as plain values; of a split that the data set gives, its days stand in for the shares."""
    given = given_cuts(settings.data_dir) if protocol.rule == "time" else None
    days = {"validation": str(given.validation), "test": str(given.test), "given_split": True} if given else {}
    return protocol.to_json() | days
