"""Publishes the warehouse's search layer: check the tables, ask the gate, build and activate a release, record it."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeAlias

from vlm4rec_search.common.errors import RunError, Vlm4recError
from vlm4rec_search.common.records import check_undamaged
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.version import package_version
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.datasets.forgotten import load_forgotten
from vlm4rec_search.indexes import open_releases
from vlm4rec_search.indexes.release import Publication, ReleaseSummary
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.indexes.search_layer import SearchLayer, read_search_layer
from vlm4rec_search.pipeline.catalogue_language import find_other_language
from vlm4rec_search.pipeline.idle_rules import find_idle_rules
from vlm4rec_search.pipeline.lost_experiments import find_lost_experiments
from vlm4rec_search.pipeline.quality import QualityReport, judge, measure_suites
from vlm4rec_search.pipeline.quality.history import record_check
from vlm4rec_search.pipeline.quality.suites import load_suites
from vlm4rec_search.pipeline.record import record_failure, record_publication, record_shown
from vlm4rec_search.pipeline.shown import observe_release
from vlm4rec_search.search.ranking import CHOSEN, Ranking, load_ranking, parse_ranking, pinned_ranking
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.rules import Rule, load_rules

logger = logging.getLogger(__name__)


class GateVerdict(Protocol):
    """The decision of a gate; its text holds the measurements."""

    @property
    def live(self) -> str:
        """Name of the live release that the new one was compared with."""

    @property
    def passed(self) -> bool:
        """Whether the new release may replace the live one."""


Gate: TypeAlias = Callable[[Releases, SearchLayer], GateVerdict | None]  # None: no release is live
# from the tables and the ranking that was chosen before, if any, to a ranking and one line that says why
Choose: TypeAlias = Callable[[SearchLayer, Ranking | None], tuple[Ranking, str]]


def publish_index(
    settings: Settings,
    environment: str = "prod",
    force: bool = False,
    url: str | None = None,
    incremental: bool = False,
    gate: Gate | None = None,
    choose: Choose | None = None,
) -> ReleaseSummary:
    """Check the tables, build and verify a release of them, activate it, and record the publication.

    The suites and the release see the same data, since one short connection reads both. Shoppers who are forgotten are
    left out, also those whom the tables still have.

    Args:
        settings: warehouse, expectations, credentials, file of records, business rules.
        environment: SQLMesh environment of the tables.
        force: publish although a suite or the gate fails, which the release records, or although somebody activated
            another release meanwhile, or much of the live release would be deleted.
        url: of the index; None takes the settings'.
        incremental: on a server, change a copy of the live release.
        gate: compares the tables with the live release before anything is built.
        choose: chooses the ranking configuration that the release holds; without it, that of the live release stays.

    Raises:
        UsageError: there is no warehouse, a table is missing, or the rules, the index URL or the list of the forgotten
            cannot be used.
        RunError: another process is writing the warehouse, the file of records is damaged, a suite or the gate refused,
            or the build failed.
    """
    check_undamaged(settings.releases)  # which is written when the release is live
    given = load_rules(settings.rules)
    rules = given.rules
    expectations = settings.require_project() / "expectations"
    suites = load_suites(expectations)
    with open_releases(url or settings.index_url, settings) as releases:
        with read(settings.warehouse) as connection:
            memory = settings.warehouse_memory
            measured = measure_suites(connection, expectations, suites, environment, memory)
            search_layer = read_search_layer(connection, environment, settings.index_photos)
        for line in find_idle_rules(rules, search_layer.tables):
            logger.warning("%s", line)
        if other := find_other_language(search_layer.tables, search_layer.analyzer):
            logger.warning("%s", other)
        report = judge(measured, settings.max_age_days)
        try:
            record_check(settings.quality, report, environment, "index")
        except RunError as error:
            logger.warning("the result of the suites is not recorded: %s", error)
        checks = _require_suites(report, force)
        if gate is not None:
            checks += _require_gate(gate, releases, search_layer, force)
        ranking, reason, chosen_from = _choose_ranking(settings, releases, search_layer, choose)
        logger.info("ranking: %s", reason)
        meta = search_layer.new_release(checks)
        meta = replace(meta, ranking=ranking.model_dump_json(), chosen=reason, chosen_from=chosen_from)
        if missing := ranking.describe_missing(meta):
            logger.warning("%s", missing)
        forgotten = partial(load_forgotten, settings.forgotten)
        try:
            publication = releases.publish(search_layer.tables, meta, incremental, force, forgotten, given.releases)
        except Vlm4recError as error:
            with suppress(Vlm4recError):  # the first error matters more than a record that cannot be written
                mode = "incremental" if incremental else "full"
                record_failure(settings.releases, releases.url, mode, meta, error)
            raise
        _record(settings, releases, publication, rules)
        with suppress(Vlm4recError):  # the release is live; `vlm4rec doctor` says it, too
            for line in find_lost_experiments(given.experiments, releases):
                logger.warning("an experiment is left out: %s", line)
        return publication.summary


def _record(settings: Settings, releases: Releases, publication: Publication, rules: Sequence[Rule]) -> None:
    """Record a successful publication, and what its release would show.

    Raises:
        RunError: the publication cannot be recorded.
    """
    name = publication.meta.name
    try:
        record_publication(settings.releases, releases.url, publication)
    except RunError as error:
        raise RunError(f"{name} is live, but its publication could not be recorded: {error}") from None
    try:
        record_shown(settings.releases, name, observe_release(releases, name, rules))
    except Vlm4recError as error:  # the release is live; only a question of analysts lacks its answer
        logger.warning("what %s shows is not recorded: %s", name, error)


def _choose_ranking(
    settings: Settings, releases: Releases, search_layer: SearchLayer, choose: Choose | None
) -> tuple[Ranking, str, str | None]:
    """Return the ranking configuration of the new release, why it is this one, and the tables it was chosen from.

    Where the live release's was chosen from the same tables, it stays without another choice. A choice that fails stops
    no publication: the ranking in force stays, and the line says so.
    """
    if pinned := pinned_ranking(settings.ranking):
        return pinned, f"{pinned.version}, named by VLM4REC_RANKING", None
    live = releases.live_release()
    in_force, why = _ranking_in_force(live), "since nothing was chosen yet"
    if in_force is not None and live is not None and live.chosen and _is_unchanged(live, search_layer):
        logger.info("no table has changed since the ranking of %s was chosen, so it stays", live.name)
        return in_force, live.chosen, live.chosen_from
    if choose is not None:
        try:
            chosen = choose(search_layer, in_force if in_force and in_force.version.startswith(CHOSEN) else None)
            return *chosen, search_layer.versions
        except Vlm4recError as error:
            why = f"since none could be chosen: {error}"
            logger.warning("no ranking was chosen: %s", error)
    if in_force is not None and live is not None:
        return in_force, f"{in_force.version}, taken over from {live.name}" + (f", {why}" if choose else ""), None
    return load_ranking(), f"{load_ranking().version}, equal weights, {why}", None


def _ranking_in_force(live: ReleaseMeta | None) -> Ranking | None:
    """Return the ranking of the live release, None where it has none that this package can read."""
    try:
        return parse_ranking(live.ranking) if live and live.ranking else None
    except Vlm4recError as error:
        logger.warning("the ranking of the live release is lost: %s", error)
        return None


def _is_unchanged(live: ReleaseMeta, search_layer: SearchLayer) -> bool:
    """Return whether the live release's ranking was chosen from these tables, by this package."""
    made_by = (live.chosen_from, live.package)
    return search_layer.versions is not None and made_by == (search_layer.versions, package_version())


def _require_suites(report: QualityReport, force: bool) -> str:
    """Return the verdict of the suites for the release's metadata.

    Raises:
        RunError: a suite failed, and `force` is not set.
    """
    if warnings := sum(len(suite.warnings) for suite in report.suites):
        logger.info("%s: see `vlm4rec check`", "1 warning" if warnings == 1 else f"{warnings:,} warnings")
    failed = ", ".join(suite.suite for suite in report.suites if not suite.success)
    if failed and not force:
        raise RunError(
            f"not published: the suites {failed} failed; `vlm4rec check` says why, --force publishes anyway and"
            " records it"
        )
    return f"forced: {failed}" if failed else "passed"


def _require_gate(gate: Gate, releases: Releases, search_layer: SearchLayer, force: bool) -> str:
    """Return the verdict of the gate for the release's metadata.

    Raises:
        RunError: the new release is worse than the live one, and `force` is not set.
    """
    verdict = gate(releases, search_layer)
    if verdict is None:
        logger.info("gate: no release is live yet, so there is nothing to compare with")
        return "; gate: first release"
    logger.info("gate: %s", verdict)
    if not verdict.passed and not force:
        raise RunError(f"not published: the new release is worse than {verdict.live}: {verdict}; --force publishes it")
    return f"; gate {'passed' if verdict.passed else 'forced'}: {verdict}"
