"""Validation and test parts of a protocol, on the product's own tables."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.evaluation.given import cuts_of
from vlm4rec_search.evaluation.loading import load_split
from vlm4rec_search.evaluation.protocol import LIKED, Protocol, find_targets, hold_out_last, taken_between
from vlm4rec_search.evaluation.snapshots import Workbench, workbench

if TYPE_CHECKING:
    from pandas import DataFrame

Say = Callable[[str], None]
VALIDATION, TEST = "evaluate_validation", "evaluate_test"

_KEPT = f"""
CREATE OR REPLACE TEMP TABLE kept AS
SELECT row_number, user_id, item_id, interacted_at, {LIKED} AS liked FROM staging.interactions
WHERE interacted_at <= (SELECT as_of FROM histories.as_of)
"""  # noqa: S608  our own text alone


@dataclass(frozen=True)
class Part:
    """One question to every system: what it may see, and what it has to find."""

    split: Split
    targets: Targets


@dataclass(frozen=True)
class Parts:
    """The part to choose on, None where nothing is to be chosen or nobody takes part, and the part to score once on."""

    validation: Part | None
    test: Part


def build_parts(settings: Settings, protocol: Protocol, needs: frozenset[str], choose: bool, say: Say) -> Parts:
    """Build the tables as of the protocol's moments and read them.

    Args:
        settings: of the warehouse that is evaluated; it is only read.
        protocol: where to cut.
        needs: kinds of item vectors to load.
        choose: whether a validation part is needed.
        say: told each long step.

    Raises:
        UsageError: no tables yet, or nobody can be asked.
        RunError: the warehouse is being written, or a plan fails.
    """
    with workbench(settings) as bench:
        cut = _leave_one_out if protocol.rule == "leave-one-out" else _in_time
        later = cut(bench, protocol, choose, say)
        test = _part(bench, protocol, needs, TEST, later[TEST])
        validation = None
        if choose:
            with suppress(UsageError):  # too small to choose on: the first variant is taken, and the results say so
                validation = _part(bench, protocol, needs, VALIDATION, later[VALIDATION])
    return Parts(validation, test)


def _in_time(bench: Workbench, protocol: Protocol, choose: bool, say: Say) -> "dict[str, DataFrame]":
    from vlm4rec_search.common.warehouse import read

    with read(bench.settings.warehouse) as connection:
        cuts = cuts_of(connection, bench.settings.data_dir, protocol)
        later = {TEST: taken_between(connection, cuts.test, cuts.end)}
        if choose:
            later[VALIDATION] = taken_between(connection, cuts.validation, cuts.test)
    for environment, moment in ((VALIDATION, cuts.validation), (TEST, cuts.test)):
        if environment in later:
            say(f"Building the tables as of {moment:%Y-%m-%d %H:%M} ({environment.removeprefix('evaluate_')})")
            bench.plan_as_of(environment, moment)
    return later


def _leave_one_out(bench: Workbench, protocol: Protocol, choose: bool, say: Say) -> "dict[str, DataFrame]":
    from vlm4rec_search.common.warehouse import read

    later, rows, held = {}, {}, []
    with read(bench.settings.warehouse) as connection:
        connection.execute(_KEPT)
        for environment in (TEST, VALIDATION) if choose else (TEST,):
            later[environment] = hold_out_last(connection, protocol)
            held += [row for (row,) in connection.execute("SELECT row_number FROM held_out").fetchall()]
            rows[environment] = list(held)
    for environment, without in rows.items():
        say(f"Building the tables without each user's last item ({environment.removeprefix('evaluate_')})")
        bench.plan_without(environment, without)
    return later


def _part(bench: Workbench, protocol: Protocol, needs: frozenset[str], environment: str, later: "DataFrame") -> Part:
    split = load_split(bench.settings, environment, protocol, needs)
    targets = find_targets(split, later, protocol.history)
    if not len(targets.users):
        raise UsageError(
            f"nobody can be evaluated: no user has at least {protocol.history} items before the cut and a new candidate"
            " after it; use a longer log, or --candidates all"
        )
    return Part(split, targets)
