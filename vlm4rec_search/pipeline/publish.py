"""From the warehouse's search layer to a published release: check the tables, read them, build, switch."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from vlm4rec_search.common.errors import RunError, Vlm4recError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.search_layer import SearchLayer, read_search_layer

if TYPE_CHECKING:
    from vlm4rec_search.indexes.release import ReleaseSummary
    from vlm4rec_search.indexes.releases import Releases
    from vlm4rec_search.pipeline.quality import QualityReport


def publish_index(
    settings: Settings,
    environment: str = "prod",
    force: bool = False,
    url: str | None = None,
    incremental: bool = False,
    tolerance: float | None = None,
) -> "ReleaseSummary":
    """Check the tables, build a release of them, verify it, let it answer, and record what was done.

    What is published is what was checked: both are read in one short connection.

    Args:
        settings: warehouse, expectations, credentials; the file of records.
        environment: of SQLMesh.
        force: publish though a suite fails, which the release records; on a server also though much of what answers
            would be gone, or another release was made to answer meanwhile.
        url: where; None takes the settings'.
        incremental: change a copy of the release that answers, on a server.
        tolerance: how much nDCG@10 may fall against the release that answers, see `evaluation.gate`; None asks not.

    Raises:
        UsageError: no warehouse or tables; or an index URL that cannot be used.
        RunError: another process is writing the warehouse; an expectation suite or the gate refused; or the build
            failed.
    """
    from vlm4rec_search.common.warehouse import read
    from vlm4rec_search.indexes import open_releases
    from vlm4rec_search.pipeline.quality import judge, measure_suites
    from vlm4rec_search.pipeline.record import record, record_failure

    releases = open_releases(url or settings.index_url, settings)
    with read(settings.warehouse) as connection:
        measured = measure_suites(connection, settings.project / "expectations", environment)
        handed = read_search_layer(connection, environment)
    checks = _verdict(judge(measured, {"max_age_days": settings.max_age_days}), force)
    if tolerance is not None:
        checks += _gate(settings, releases, handed, tolerance, force)
    meta = handed.new_release(checks)
    mode = "incremental" if incremental else "full"
    try:
        publication = releases.publish(handed.tables, meta, incremental, force)
    except Vlm4recError as error:
        with suppress(Vlm4recError):  # what went wrong first is what has to be told
            record_failure(settings.releases, releases.url, mode, meta, error)
        raise
    try:
        record(settings.releases, releases.url, mode, publication)
    except RunError as error:
        raise RunError(f"{meta.name} answers, but there is no record of it: {error}") from None
    return publication.summary


def _gate(settings: Settings, releases: "Releases", handed: SearchLayer, tolerance: float, force: bool) -> str:
    """Return what the gate found, for the release's record."""
    from vlm4rec_search.evaluation.gate import judge_release

    verdict = judge_release(settings, releases, handed, tolerance, lambda step: print(step, file=sys.stderr))
    if verdict is None:
        print("gate: nothing answers yet that the new release could be compared with", file=sys.stderr)
        return "; gate: first release"
    print(f"gate: {verdict}", file=sys.stderr)
    if not verdict.passed and not force:
        raise RunError(f"not published: the new release is worse than {verdict.live}: {verdict}; --force publishes it")
    return f"; gate {'passed' if verdict.passed else 'forced'}: {verdict}"


def _verdict(report: "QualityReport", force: bool) -> str:
    if warnings := sum(len(suite.warnings) for suite in report.suites):
        print(f"{warnings} warnings: `vlm4rec check` says of what", file=sys.stderr)
    failed = ", ".join(suite.suite for suite in report.suites if not suite.success)
    if failed and not force:
        raise RunError(
            f"not published: the suites {failed} failed; `vlm4rec check` says why, --force publishes anyway and"
            " records it"
        )
    return f"forced: {failed}" if failed else "passed"
