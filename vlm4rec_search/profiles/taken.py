"""Which shopper took which item, and how long ago: the input of all that the histories of others teach."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse
from sqlglot import exp

from vlm4rec_search.common.vectors import Floats, Ints, Mask, Texts
from vlm4rec_search.profiles.numbered import read_numbered

_FIRST_AND_LAST = "MAX(given.days) AS first, MIN(given.days) AS last"


@dataclass(frozen=True)
class Taken:
    """The distinct pairs of u shoppers and n items.

    Attributes:
        user_ids: (u,) sorted.
        item_ids: (n,) sorted.
        users, items: (m,) rows of the pairs, by user and item.
        first, last: (m,) age in days of the first and of the last event of a pair.
    """

    user_ids: Texts
    item_ids: Texts
    users: Ints
    items: Ints
    first: Floats
    last: Floats

    @classmethod
    def read(cls, fetch: Callable[[exp.Expr], pd.DataFrame], likes: str) -> Self:
        """Return the pairs of a table user_id, item_id, days, such as profiles.likes.

        Args:
            fetch: returns the rows of a query.
            likes: name of the table.
        """
        user_ids, item_ids, pairs = read_numbered(fetch, likes, _FIRST_AND_LAST, of_pairs=True)
        users, items = (pairs[name].to_numpy(np.int64) for name in ("user_number", "item_number"))
        return cls(user_ids, item_ids, users, items, *(pairs[name].to_numpy(np.float64) for name in ("first", "last")))

    @classmethod
    def from_likes(cls, likes: pd.DataFrame) -> Self:
        """Return the pairs of the rows user_id, item_id, days; `days` is the age of an event, 0 or more."""
        return cls.of_events(Events.from_likes(likes), 0.0)

    @classmethod
    def of_events(cls, events: "Events", days: float) -> Self:
        """Return the pairs as they were `days` ago: later events are left out, and ages count from there."""
        then = events.days >= days
        keys = events.users[then] * max(len(events.item_ids), 1) + events.items[then]
        ages = events.days[then] - days
        order = np.lexsort((ages, keys))
        keys, ages = keys[order], ages[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        ends = np.append(starts, len(keys))[1:] - 1
        users, items = np.divmod(keys[starts], max(len(events.item_ids), 1))
        return cls(events.user_ids, events.item_ids, users, items, ages[ends], ages[starts])

    def matrix(self, half_life: float) -> sparse.csr_array:
        """Return 0.5^(age of the last event / half-life), float32 (u, n)."""
        weights = np.exp2(-self.last / half_life).astype(np.float32)
        shape = (len(self.user_ids), len(self.item_ids))
        return sparse.coo_array((weights, (self.users, self.items)), shape=shape).tocsr()

    def within(self, days: float) -> Self:
        """Return the pairs whose last event is less than `days` old."""
        return self._pairs(self.last < days)

    def latest(self, most: int) -> Self:
        """Return the `most` pairs of each shopper whose last events are the latest; equal ones are ordered by item."""
        order = np.lexsort((self.items, self.last, self.users))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order)) - np.searchsorted(self.users, self.users)
        return self._pairs(ranks < most)

    def popular_items(self, most: int) -> Self:
        """Return the pairs of the `most` items that the largest number of shoppers took."""
        counts = np.bincount(self.items, minlength=len(self.item_ids))
        if len(counts) <= most:
            return self
        kept, inside, items = _most_frequent(counts, most, self.items)
        first, last = self.first[inside], self.last[inside]
        return type(self)(self.user_ids, self.item_ids[kept], self.users[inside], items, first, last)

    def _pairs(self, some: Mask) -> Self:
        """Return some of the pairs, of the same shoppers and items."""
        first, last = self.first[some], self.last[some]
        return type(self)(self.user_ids, self.item_ids, self.users[some], self.items[some], first, last)


@dataclass(frozen=True)
class Events:
    """Every time that one of u shoppers took one of n items: what a look back at an earlier moment needs.

    Attributes:
        user_ids: (u,) sorted.
        item_ids: (n,) sorted.
        users, items: (m,) rows of the events.
        days: (m,) their ages.
    """

    user_ids: Texts
    item_ids: Texts
    users: Ints
    items: Ints
    days: Floats

    @classmethod
    def read(cls, fetch: Callable[[exp.Expr], pd.DataFrame], likes: str) -> Self:
        """Return the events of a table user_id, item_id, days; the arguments are those of `Taken.read`."""
        user_ids, item_ids, rows = read_numbered(fetch, likes, "given.days")
        users, items = (rows[name].to_numpy(np.int64) for name in ("user_number", "item_number"))
        return cls(user_ids, item_ids, users, items, rows["days"].to_numpy(np.float64))

    @classmethod
    def from_likes(cls, likes: pd.DataFrame) -> Self:
        """Return the rows user_id, item_id, days; `days` is the age of an event, 0 or more."""
        users, user_ids = pd.factorize(likes["user_id"], sort=True)
        items, item_ids = pd.factorize(likes["item_id"], sort=True)
        rows = users.astype(np.int64), items.astype(np.int64), likes["days"].to_numpy(np.float64)
        return cls(np.asarray(user_ids, object), np.asarray(item_ids, object), *rows)

    def before(self, days: float) -> Taken:
        """Return what was taken as it was `days` ago."""
        return Taken.of_events(self, days)

    def some_users(self, most: int) -> Self:
        """Return the events of at most `most` shoppers, evenly spread over the ids."""
        if len(self.user_ids) <= most:
            return self
        kept = np.unique(np.linspace(0, len(self.user_ids) - 1, most).astype(np.int64))
        inside = np.isin(self.users, kept)
        users = np.searchsorted(kept, self.users[inside])
        return type(self)(self.user_ids[kept], self.item_ids, users, self.items[inside], self.days[inside])

    def popular_items(self, most: int) -> Self:
        """Return the events of the `most` items that the largest number of shoppers took."""
        counts = np.bincount(self.before(0.0).items, minlength=len(self.item_ids))
        if len(counts) <= most:
            return self
        kept, inside, items = _most_frequent(counts, most, self.items)
        return type(self)(self.user_ids, self.item_ids[kept], self.users[inside], items, self.days[inside])


def _most_frequent(counts: Ints, most: int, items: Ints) -> tuple[Ints, Mask, Ints]:
    """Return the columns of the `most` largest counts, where `items` has one of them, and its place among them."""
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    inside = np.isin(items, kept)
    return kept, inside, np.searchsorted(kept, items[inside])
