"""Systems that use the interactions alone: popularity, co-purchase, and random order."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from vlm4rec_search.common.vectors import Ints, Scores
from vlm4rec_search.evaluation.data import Split, Targets, incidence
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System

WINDOWS = (7.0, 14.0, 30.0, 60.0, 90.0, 180.0)
USUAL = 30.0  # days, where there is nothing to choose them on
DENSE = 0.1  # share of pairs with a similarity from which a full array is faster, which at 12,000 items takes 0.6 GB
LONGEST = 2_000  # users with more items are left out: they are programs, and the cost of their pairs is quadratic


def within(split: Split, days: float | None) -> sparse.csr_array:
    """Return which user took which item in the last days before the split's moment, float32 (u, n); None: ever."""
    if days is None:
        return split.seen
    recent = split.times > split.as_of - np.timedelta64(int(days * 86_400_000_000), "us")
    return incidence(split.users[recent], split.items[recent], split.shape)


class Popularity(System):
    """Ranks every user's items by the number of users who took them."""

    def __init__(self, name: str = "popularity", days: float | None = None) -> None:
        self.name, self.days = name, days
        self.setting = "" if days is None else f"{days:g} days"

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Count."""
        counts = np.bincount(within(split, self.days).indices, minlength=split.shape[1])
        self._counts = np.where(counts > 0, counts, NOT_FOUND).astype(np.float32)

    def scores(self, users: Ints) -> Scores:
        """Return the counts for every user, float32 (b, n)."""
        return np.tile(self._counts, (len(users), 1))

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Return the number of users who took each item."""
        return [f"Shoppers who took it: {count:,.0f}." for count in self._counts[items]]


class CoPurchase(System):
    """Items that the same users took: the sum over the history of |users of both| / sqrt(|users| |users|).

    Item-to-item collaborative filtering with cosine similarity (Sarwar et al., WWW 2001), over all users; with `days`
    the similarity counts the last days only, while the history stays whole.
    """

    def __init__(self, name: str = "co-purchase", days: float | None = None) -> None:
        self.name, self.days = name, days
        self.setting = "" if days is None else f"{days:g} days"

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Count pairs."""
        taken = within(split, self.days)
        taken = taken[np.diff(taken.indptr) <= LONGEST]
        counts = np.bincount(taken.indices, minlength=split.shape[1])
        scale = sparse.diags_array((1.0 / np.sqrt(np.maximum(counts, 1))).astype(np.float32))
        similar = scale @ sparse.csr_array(taken.T @ taken) @ scale
        similar = sparse.csr_array(similar - sparse.diags_array(similar.diagonal()))
        self._similar = similar.toarray() if similar.nnz > DENSE * similar.shape[0] ** 2 else similar
        self._seen, self._titles = split.seen, split.catalogue.titles

    def scores(self, users: Ints) -> Scores:
        """Return sums of similarities, float32 (b, n); items that share no user with the history are not ranked."""
        found = _full(self._seen[users] @ self._similar)
        return np.where(found > 0, found, NOT_FOUND).astype(np.float32)

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Name the item of the history that is shared most."""
        history = self._seen.indices[self._seen.indptr[user] : self._seen.indptr[user + 1]]
        shares = _full(self._similar[history][:, items])
        titles = self._titles[history[shares.argmax(axis=0)]] if len(history) else []
        return [f'Taken by those who took "{title}".' for title in titles]


def _full(matrix: Scores | sparse.csr_array) -> Scores:
    full: Scores = matrix.toarray() if isinstance(matrix, sparse.csr_array) else matrix
    return full


class Recent(System):
    """Popularity or co-purchase over the last days; how many days is chosen on validation."""

    def __init__(self, name: str, kind: type[Popularity] | type[CoPurchase]) -> None:
        self.name, self._kind = name, kind

    def variants(self) -> Sequence[System]:
        """Return one system for each of `WINDOWS`."""
        return [self._kind(self.name, days) for days in WINDOWS]

    def default(self) -> System:
        """Return the system over the last `USUAL` days."""
        return self._kind(self.name, USUAL)

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Refuse: one of the variants is fitted instead."""
        raise NotImplementedError(f"{self.name} is fitted through its variants")

    def scores(self, users: Ints) -> Scores:
        """Refuse, as `fit`."""
        raise NotImplementedError(f"{self.name} is scored through its variants")


class Random(System):
    """Chance: the floor of every comparison."""

    name = "random"

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Take the seed."""
        self._seed, self._items = split.seed, split.shape[1]

    def scores(self, users: Ints) -> Scores:
        """Return random numbers, float32 (b, n), that depend on seed and user, not on the block."""
        draws = [np.random.default_rng((self._seed, int(user))).random(self._items, np.float32) for user in users]
        return np.stack(draws)
