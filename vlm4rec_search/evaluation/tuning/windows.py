"""The rolling windows on which a ranking is chosen: tables as of earlier moments, and what shoppers took next."""

from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import NamedTuple

import numpy as np

from vlm4rec_search.common.concurrency import usable_cores
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.processes import run_in_processes
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Ints
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.evaluation.data import Targets, incidence
from vlm4rec_search.evaluation.protocol import (
    Protocol,
    count_returning,
    find_end,
    find_targets,
    find_window_moments,
    given_cuts,
    histories_until,
    taken_between,
)
from vlm4rec_search.evaluation.snapshots import AT_ONCE, Workbench
from vlm4rec_search.evaluation.splits import Part, load_split
from vlm4rec_search.evaluation.systems.product import open_split
from vlm4rec_search.evaluation.tuning.sweep import (
    Arranged,
    Pool,
    UserCandidates,
    arrange,
    build_pool,
    retrieve_candidates,
)
from vlm4rec_search.search.query import Fusion
from vlm4rec_search.search.ranking import Ranking

STARTS = (0.6, 0.7, 0.8)  # shares of the first interactions before each window; the test part begins at 0.9
LAST = "tune_last"
SHOWN = 1_000  # the most shoppers of the last moment, who tell what top tens show
FOLDS = 3  # of the shoppers, where a data set has a single window


@dataclass(frozen=True, eq=False)  # two windows are never equal: arrays have no truth value
class Window:
    """Some shoppers of one moment.

    Attributes:
        part: items and histories as of the moment, and what the shoppers took next; nothing for the last moment.
        candidates: of each kind of profile (mean, interests), one for each shopper.
        made_by: captioner and encoder of the tables.
    """

    part: Part
    candidates: dict[str, list[UserCandidates]]
    made_by: tuple[str, str] | None = None
    _arranged: dict[tuple[str, int], Arranged] = field(default_factory=dict, repr=False)
    _pools: dict[tuple[str, Fusion, int], Pool] = field(default_factory=dict, repr=False)
    _building: Lock = field(default_factory=Lock, repr=False)

    @property
    def lengths(self) -> Ints:
        """The number of items that each shopper has seen, by which a search chooses weights, int64 (u,)."""
        return np.array([each.seen for each in self.candidates["mean"]], dtype=np.int64)

    def pool(self, profile: str, fusion: Fusion, depth: int) -> Pool:
        """Return the pool of its shoppers, which is built once: about 60 MB for 1,000 of them at depth 200."""
        key = (profile, fusion, depth)
        with self._building:
            if key not in self._pools:
                if (profile, depth) not in self._arranged:
                    relevant = self.part.targets.relevant
                    self._arranged[profile, depth] = arrange(self.candidates[profile], relevant, depth)
                self._pools[key] = build_pool(self._arranged[profile, depth], fusion)
            return self._pools[key]

    def some(self, rows: Ints) -> "Window":
        """Return the window with some of its shoppers."""
        targets = Targets(self.part.targets.users[rows], self.part.targets.relevant[rows])
        candidates = {profile: [each[row] for row in rows.tolist()] for profile, each in self.candidates.items()}
        return Window(Part(self.part.split, targets), candidates)


@dataclass(frozen=True)
class Windows:
    """The windows, and the tables as of the end of the last, whose first ten hits are looked at for all shoppers."""

    past: list[Window]
    last: Window

    @property
    def shoppers(self) -> int:
        """Number of shoppers of all past windows."""
        return sum(len(window.part.targets.users) for window in self.past)

    def folds(self) -> "list[tuple[Windows, Window]]":
        """Return each window behind the others, for a choice that is judged on a window it has not seen.

        A single window is divided into `FOLDS` groups of shoppers.
        """
        groups = self.past
        if len(groups) == 1:
            groups = [groups[0].some(np.arange(fold, self.shoppers, FOLDS)) for fold in range(FOLDS)]
        return [(Windows([each for each in groups if each is not held], self.last), held) for held in groups]


def moments_of(bench: Workbench, protocol: Protocol) -> list[datetime]:
    """Return the starts of the windows and the end of the last, which is the start of the test part.

    A data set with a split of its own has one window, its validation part. No window ends after the moment of the
    tables: a choice for them may not know what happened later.

    Raises:
        UsageError: there are too few interactions for windows, the data set's own window ends after the moment of the
            tables, or GIVEN.json cannot be read.
    """
    given = given_cuts(bench.settings.data_dir)
    with read(bench.settings.warehouse) as connection:
        if given is None:
            return find_window_moments(connection, (*STARTS, protocol.test))
        end = find_end(connection)
    if end is None or end < given.test:
        raise UsageError(
            f"the tables end at {end}, before the window of the data set's own split ({given.test}): run `sqlmesh plan`"
            " without VLM4REC_AS_OF, or with a later one"
        )
    return [given.validation, given.test]


def count_shoppers(bench: Workbench, protocol: Protocol, enough: int) -> int:
    """Return an upper bound of `Windows.shoppers` that takes seconds: no table is built. Counting ends at `enough`.

    Raises:
        UsageError: as for `moments_of`.
    """
    count, moments = 0, moments_of(bench, protocol)
    histories = histories_until(bench.settings.require_project())
    with read(bench.settings.warehouse) as connection:
        for start, end in pairwise(moments):
            if count < enough:
                count += count_returning(connection, histories, protocol, start, end)
    return count


def build_windows(bench: Workbench, protocol: Protocol, file: Path, deep: Ranking, users: int, folder: Path) -> Windows:
    """Build the tables as of each window's start and of the last one's end, and retrieve the shoppers' candidates.

    Nobody pays for captions here: what is not in the cache stays missing.

    Args:
        bench: a copy of the warehouse.
        protocol: which items may be ranked.
        file: of the ranking, on whose durations the tables depend.
        deep: the ranking with the largest depth that is wanted.
        users: the most shoppers of all windows together, and, up to `SHOWN`, of the last moment.
        folder: for temporary releases.

    Raises:
        UsageError: as for `moments_of`, or the tables of a moment have no documents.
        RunError: a plan fails, or a process is ended.
    """
    moments = moments_of(bench, protocol)
    names = [f"tune_{number}" for number in range(len(moments) - 1)]
    bench.build_moments(dict(zip([*names, LAST], moments, strict=True)), file)
    log, (few, rest) = bench.settings.warehouse, divmod(users, len(names))
    last = _Moment(bench.settings_of(LAST), LAST, log, moments[-1], None, min(users, SHOWN))
    past = [
        _Moment(bench.settings_of(name), name, log, *ends, max(1, few + (place < rest)))
        for place, (name, ends) in enumerate(zip(names, pairwise(moments), strict=True))
    ]
    tasks = [last, *past]  # the largest first, so that no process waits for it at the end
    histories = histories_until(bench.settings.require_project())  # rendered here: no process has to import SQLMesh
    retrieve = partial(_retrieve, protocol=protocol, ranking=deep, folder=folder, histories=histories)
    processes = min(AT_ONCE, usable_cores())
    windows = []
    with bar("candidates of earlier moments", len(tasks)) as advance:
        for found in run_in_processes(retrieve, tasks, processes, "free some memory and run again"):
            if found is not None:
                windows.append(Window(*found))
            advance(1)
    return Windows(windows[1:], windows[0])


class _Moment(NamedTuple):
    """A moment, and the window that begins there.

    Attributes:
        settings: with the warehouse that has the tables of the environment.
        environment: of the moment.
        log: the warehouse with all interactions.
        start: the moment.
        end: of the window; None for the last moment, whose shoppers are all asked, for all items.
        users: the most shoppers.
    """

    settings: Settings
    environment: str
    log: Path
    start: datetime
    end: datetime | None
    users: int


def _retrieve(
    moment: _Moment, protocol: Protocol, ranking: Ranking, folder: Path, histories: str
) -> tuple[Part, dict[str, list[UserCandidates]], tuple[str, str] | None] | None:
    """Return the part of a moment and the candidates of its shoppers; None where nobody took anything new."""
    split = load_split(moment.settings, moment.environment, protocol, frozenset(), fixed=False)
    if moment.end is None:
        split = replace(split, candidates=np.ones_like(split.candidates))  # a release has all items
        everybody = np.arange(split.shape[0])
        targets = Targets(everybody, incidence(everybody[:0], everybody[:0], split.shape))
    else:
        with read(moment.log) as connection:
            taken = taken_between(connection, histories, moment.start, moment.end)
        targets = find_targets(split, taken, protocol.history)
        if not len(targets.users):
            return None
    part = Part(split, targets.some(moment.users, protocol.seed))
    with (
        TemporaryDirectory(dir=folder) as place,
        closing(open_split(split, Path(place), part.targets.users)) as store,
    ):
        mean = retrieve_candidates(store, part, ranking.model_copy(update={"profile": "mean"}))
        of_interests = ranking.model_copy(update={"profile": "interests"})
        near = retrieve_candidates(store, part, of_interests, "semantic")
    # Only the semantic retrievers differ.
    interests = [one.with_semantic(other) for one, other in zip(mean, near, strict=True)]
    made_by = (split.tables.captioner, split.tables.encoder) if split.tables else None
    # The tables are large, and only the release was made of them.
    return replace(part, split=replace(split, tables=None)), {"mean": mean, "interests": interests}, made_by
