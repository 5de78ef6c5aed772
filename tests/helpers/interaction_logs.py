"""Made worlds for the tests of the evaluation: a log as arrays, cut at a moment into a split and its targets."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from vlm4rec_search.common.vectors import Floats, Ints, Times
from vlm4rec_search.evaluation.data import Catalogue, Split, Targets, incidence
from vlm4rec_search.evaluation.protocol import find_targets

DAY = np.timedelta64(86_400_000_000, "us")
START = np.datetime64("2025-01-01", "us")


@dataclass(frozen=True)
class Log:
    """Rows of users and items with times; `vectors` (n, d) describe the items, `others` are more kinds of them."""

    users: Ints
    items: Ints
    times: Times
    vectors: Floats
    others: dict[str, Floats] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, Floats]:
        """Return the vectors by kind; what is searched is described alone."""
        return {"document": self.vectors, "description": self.vectors, **self.others}

    def split(self, as_of: np.datetime64, seed: int = 7, known_only: bool = False) -> Split:
        """Return what had happened by `as_of`."""
        rows = np.flatnonzero(self.times <= as_of)
        rows = rows[np.lexsort((self.times[rows], self.users[rows]))]
        users, items = int(self.users.max()) + 1, len(self.vectors)
        catalogue = Catalogue(
            np.array([f"i{item:04d}" for item in range(items)], dtype=object),
            np.array([f"item {item}" for item in range(items)], dtype=object),
            np.full(items, None, dtype=object),
            {kind: rows.astype(np.float32) for kind, rows in self.kinds.items()},
        )
        candidates = np.ones(items, dtype=bool)
        if known_only:
            candidates = np.isin(np.arange(items), self.items[rows])
        user_ids = np.array([f"u{user:04d}" for user in range(users)], dtype=object)
        weights = incidence(self.users[rows], self.items[rows], (users, items))
        log = (self.users[rows], self.items[rows], self.times[rows])
        return Split(catalogue, user_ids, *log, weights, as_of, candidates, seed=seed)

    def until(self, moment: np.datetime64) -> "Log":
        """Return the rows up to a moment."""
        rows = self.times <= moment
        return Log(self.users[rows], self.items[rows], self.times[rows], self.vectors, self.others)

    def targets(self, split: Split, history: int = 2) -> Targets:
        """Return what the users of a split have to find after its moment."""
        rows = self.times > split.as_of
        users, items = split.user_ids[self.users[rows]], split.catalogue.item_ids[self.items[rows]]
        return find_targets(split, pd.DataFrame({"user_id": users, "item_id": items}), history)


def planted(users: int = 240, items: int = 160, groups: int = 8, length: int = 15, seed: int = 3) -> Log:
    """Return a world in which each user takes items of one group at random, over 100 days; vectors tell the group."""
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), length)
    item = draw.integers(0, items // groups, len(user)) * groups + user % groups
    vectors = np.eye(groups)[np.arange(items) % groups]
    return Log(user, item, START + draw.integers(0, 100, len(user)) * DAY, vectors)


def drifting(users: int = 300, items: int = 200, length: int = 12, seed: int = 3) -> Log:
    """Return a world in which everybody takes what is new: on day d of 100, items around 2 d."""
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), length)
    day = draw.integers(0, 100, len(user))
    item = np.clip(2 * day + draw.integers(-8, 9, len(user)), 0, items - 1)
    return Log(user, item, START + day * DAY, np.eye(items)[:, :16] + 0.1)


def made(rows: list[tuple[int, int, int]], vectors: Floats) -> Log:
    """Return a log of (user, item, day)."""
    users, items, days = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Log(users, items, START + days * DAY, vectors)
