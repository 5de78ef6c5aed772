"""The rolling windows on which a ranking is chosen: tables as of earlier moments, and what shoppers took next."""

from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vlm4rec_search.common.vectors import Ints
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.evaluation.data import Targets, incidence
from vlm4rec_search.evaluation.protocol import Protocol, find_moments, find_targets, given_cuts, taken_between
from vlm4rec_search.evaluation.snapshots import Workbench
from vlm4rec_search.evaluation.splits import Part, load_split
from vlm4rec_search.evaluation.systems.product import open_split
from vlm4rec_search.evaluation.tuning.sweep import Pool, UserCandidates, build_pool, retrieve_candidates
from vlm4rec_search.search.query import Fusion
from vlm4rec_search.search.ranking import Ranking

STARTS = (0.6, 0.7, 0.8)  # shares of the first interactions before each window; the test part begins at 0.9
LAST = "tune_last"
FOLDS = 3  # of the shoppers, where a data set has a single window


@dataclass(frozen=True, eq=False)  # two windows are never equal: arrays have no truth value
class Window:
    """Some shoppers of one moment.

    Attributes:
        part: tables as of the moment, and what the shoppers took next; nothing for the end of the last window.
        candidates: of each kind of profile (mean, interests), one for each shopper.
    """

    part: Part
    candidates: dict[str, list[UserCandidates]]
    _pools: dict[tuple[str, Fusion, int], Pool] = field(default_factory=dict, repr=False)

    @property
    def lengths(self) -> Ints:
        """The number of items that each shopper has seen, by which a search chooses weights, int64 (u,)."""
        return np.array([each.seen for each in self.candidates["mean"]], dtype=np.int64)

    def pool(self, profile: str, fusion: Fusion, depth: int) -> Pool:
        """Return the pool of its shoppers, which is built once: about 60 MB for 1,000 of them at depth 200."""
        key = (profile, fusion, depth)
        if key not in self._pools:
            self._pools[key] = build_pool(self.candidates[profile], self.part.targets.relevant, fusion, depth)
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

    A data set with a split of its own has one window, its validation part.

    Raises:
        UsageError: there are too few interactions for windows, or GIVEN.json cannot be read.
    """
    if given := given_cuts(bench.settings.data_dir):
        return [given.validation, given.test]
    with read(bench.settings.warehouse) as connection:
        return find_moments(connection, (*STARTS, protocol.test))


def build_windows(bench: Workbench, protocol: Protocol, ranking: Path, users: int) -> list[Part]:
    """Build the tables as of each window's start and of the last one's end, and return the parts in this order.

    Nobody pays for captions here: what is not in the cache stays missing.

    Args:
        bench: a copy of the warehouse.
        protocol: which items may be ranked.
        ranking: file of the configuration, on whose durations the tables depend.
        users: the most shoppers of all windows together, and of the last moment.

    Raises:
        UsageError: there are too few interactions for windows.
        RunError: a plan fails.
    """
    moments = moments_of(bench, protocol)
    names = [f"tune_{number}" for number in range(len(moments) - 1)]
    bench.plan_moments(dict(zip([*names, LAST], moments, strict=True)), ranking)
    parts = []
    for name, start, end in zip(names, moments[:-1], moments[1:], strict=True):
        split = load_split(bench.settings, name, protocol, frozenset())
        with read(bench.settings.warehouse) as connection:
            targets = find_targets(split, taken_between(connection, start, end), protocol.history)
        if len(targets.users):
            parts.append(Part(split, targets.some(max(1, users // len(names)), protocol.seed)))
    split = load_split(bench.settings, LAST, protocol, frozenset())
    split = replace(split, candidates=np.ones_like(split.candidates))  # a release has all items
    everybody = np.arange(split.shape[0])
    nothing = incidence(everybody[:0], everybody[:0], split.shape)
    return [*parts, Part(split, Targets(everybody, nothing).some(users, protocol.seed))]


def retrieve_windows(parts: list[Part], ranking: Ranking, folder: Path) -> Windows:
    """Publish the tables of every part in a temporary folder and retrieve the candidates of all their shoppers.

    Raises:
        UsageError: the tables of a part have no documents.
    """
    windows = [_retrieve(part, ranking, folder) for part in parts]
    return Windows(windows[:-1], windows[-1])


def _retrieve(part: Part, ranking: Ranking, folder: Path) -> Window:
    with (
        TemporaryDirectory(dir=folder) as place,
        closing(open_split(part.split, Path(place), part.targets.users)) as store,
    ):
        mean = retrieve_candidates(store, part, ranking.model_copy(update={"profile": "mean"}))
        of_interests = ranking.model_copy(update={"profile": "interests"})
        near = retrieve_candidates(store, part, of_interests, "semantic")
    # Only the semantic retrievers differ.
    interests = [one.with_semantic(other) for one, other in zip(mean, near, strict=True)]
    return Window(part, {"mean": mean, "interests": interests})
