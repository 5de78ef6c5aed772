"""The job of `vlm4rec evaluate`: build the parts, run the systems, store the results, write the report."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.protocol import Protocol, given_cuts
from vlm4rec_search.evaluation.report import Chapter, write_report
from vlm4rec_search.evaluation.results import Results, summarise
from vlm4rec_search.evaluation.run import evaluate, has_choice
from vlm4rec_search.evaluation.snapshots import built_world
from vlm4rec_search.evaluation.splits import Say, build_parts, captions_note
from vlm4rec_search.evaluation.store import Provenance, save
from vlm4rec_search.evaluation.systems import load_systems
from vlm4rec_search.evaluation.tuning.tune import tune
from vlm4rec_search.indexes import ranking_in_force
from vlm4rec_search.indexes.release import SCHEMA_VERSION
from vlm4rec_search.indexes.search_layer import SearchLayer
from vlm4rec_search.search.ranking import CHOSEN, Ranking, load_ranking

PRODUCT = ("product-", "oracle-of-legs")  # systems that use the ranking


@dataclass(frozen=True)
class Job:
    """What to evaluate.

    Attributes:
        protocol: split, candidates and users.
        names: of the systems; empty for all.
        worlds: simulated worlds of the built-in shop; empty for the tables of the warehouse.
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
        job: what to evaluate.
        say: receives the name of each long step.

    Returns:
        Results by world; the key of the warehouse's own tables is empty.

    Raises:
        UsageError: a system is unknown, there are no tables yet, or no user has held-out items.
        RunError: the warehouse is being written, a plan fails, or the results cannot be written.
        OSError: the report cannot be written.
    """
    for path in (settings.results, *([job.report] if job.report else [])):
        path.parent.mkdir(parents=True, exist_ok=True)  # fail before the work, not after it
    load_systems(job.names)  # the same for unknown names
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
    uses_ranking = not job.names or any(name.startswith(PRODUCT) for name in job.names)
    ranking = _ranking(settings, job.protocol, world, say) if uses_ranking else load_ranking(settings.ranking)
    systems = load_systems(job.names, ranking)
    needs = frozenset[str]().union(*(system.needs for system in systems))
    choose = any(map(has_choice, systems))
    parts = build_parts(settings, job.protocol, needs, choose, say)
    with bar("systems", sum(len(system.copies()) for system in systems)) as advance:
        evaluation = evaluate(parts, systems, lambda name: advance(1))
    say("Computing intervals and slices")
    about = _protocol(settings, job.protocol) | ({"world": world} if world else {})
    if choose:
        about["validation_users"] = len(parts.validation.targets.users) if parts.validation else None
    tables = parts.test.split.tables
    note = captions_note(tables.tables.documents, tables.captioner) if tables and "description" in needs else ""
    if note:
        about["captions"] = note
        say(note)
    results = summarise(evaluation, about, job.protocol.seed)
    save(results, evaluation, settings.results, _provenance(tables, ranking))
    return Chapter(world, results, evaluation, settings)


def _ranking(settings: Settings, protocol: Protocol, world: str, say: Say) -> Ranking:
    """Return the ranking that the product's rows use: the one in force, or for a simulated world one chosen for it.

    Leave-one-out holds out items of the windows on which a ranking is chosen, so that the live release's is not used.
    """
    if protocol.leaks:
        ranking = load_ranking(settings.ranking)
        if settings.ranking:
            say(
                f"The product's rows use the ranking {ranking.version} of VLM4REC_RANKING: it must not have been chosen"
                " on this log, since it would know what is held out"
            )
        else:
            say(
                f"The product's rows use the packaged ranking {ranking.version}, since one that was chosen for the shop"
                " knows what is held out"
            )
        return ranking
    if world and not settings.ranking:
        tuned = tune(settings, Protocol(candidates=protocol.candidates), False, f"{CHOSEN}{world}", say)
        say(f"Ranking: {tuned.reason}")
        return tuned.ranking
    ranking = ranking_in_force(settings)
    say(f"The product's rows use the ranking {ranking.version}")
    return ranking


def _protocol(settings: Settings, protocol: Protocol) -> dict[str, object]:
    """Return the protocol as plain values; a split that the data set gives is described by its days."""
    given = given_cuts(settings.data_dir) if protocol.rule == "time" else None
    days = {"validation": str(given.validation), "test": str(given.test), "given_split": True} if given else {}
    return protocol.to_json() | days


def _provenance(tables: SearchLayer | None, ranking: Ranking) -> Provenance | None:
    if tables is None:
        return None
    recipe = tables.text_recipe or ""
    values = sha256(ranking.model_dump_json(exclude={"version"}).encode()).hexdigest()[:12]
    return Provenance(tables.captioner, tables.prompt, tables.encoder, recipe, ranking.version, values, SCHEMA_VERSION)
