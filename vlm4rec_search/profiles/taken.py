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
        rows, user_ids = pd.factorize(likes["user_id"], sort=True)
        columns, item_ids = pd.factorize(likes["item_id"], sort=True)
        days = likes["days"].to_numpy(np.float64)
        keys = rows.astype(np.int64) * max(len(item_ids), 1) + columns
        order = np.lexsort((days, keys))
        keys, days = keys[order], days[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        ends = np.append(starts, len(keys))[1:] - 1
        users, items = np.divmod(keys[starts], max(len(item_ids), 1))
        return cls(np.asarray(user_ids, object), np.asarray(item_ids, object), users, items, days[ends], days[starts])

    def matrix(self, half_life: float) -> sparse.csr_array:
        """Return 0.5^(age of the last event / half-life), float32 (u, n)."""
        weights = np.exp2(-self.last / half_life).astype(np.float32)
        shape = (len(self.user_ids), len(self.item_ids))
        return sparse.coo_array((weights, (self.users, self.items)), shape=shape).tocsr()

    def before(self, days: float) -> Self:
        """Return the pairs as they were `days` ago: pairs that began later are left out, and ages count from there.

        The last event of a pair that was repeated later is not known any more; its first event stands in for it.
        """
        then = self.first >= days
        last = np.where(self.last >= days, self.last, self.first)[then] - days
        return type(self)(
            self.user_ids, self.item_ids, self.users[then], self.items[then], self.first[then] - days, last
        )

    def within(self, days: float) -> Self:
        """Return the pairs whose last event is less than `days` old."""
        return self._pairs(self.last < days)

    def latest(self, most: int) -> Self:
        """Return the `most` pairs of each shopper whose last events are the latest; equal ones are ordered by item."""
        order = np.lexsort((self.items, self.last, self.users))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order)) - np.searchsorted(self.users, self.users)
        return self._pairs(ranks < most)

    def some_users(self, most: int) -> Self:
        """Return the pairs of at most `most` shoppers, evenly spread over the ids."""
        if len(self.user_ids) <= most:
            return self
        kept = np.unique(np.linspace(0, len(self.user_ids) - 1, most).astype(np.int64))
        inside = np.isin(self.users, kept)
        users = np.searchsorted(kept, self.users[inside])
        first, last = self.first[inside], self.last[inside]
        return type(self)(self.user_ids[kept], self.item_ids, users, self.items[inside], first, last)

    def popular_items(self, most: int) -> Self:
        """Return the pairs of the `most` items that the largest number of shoppers took."""
        counts = np.bincount(self.items, minlength=len(self.item_ids))
        if len(counts) <= most:
            return self
        kept = np.sort(np.argsort(-counts, kind="stable")[:most])
        inside = np.isin(self.items, kept)
        items = np.searchsorted(kept, self.items[inside])
        first, last = self.first[inside], self.last[inside]
        return type(self)(self.user_ids, self.item_ids[kept], self.users[inside], items, first, last)

    def _pairs(self, some: Mask) -> Self:
        """Return some of the pairs, of the same shoppers and items."""
        first, last = self.first[some], self.last[some]
        return type(self)(self.user_ids, self.item_ids, self.users[some], self.items[some], first, last)
