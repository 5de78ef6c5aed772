"""What a system is: it learns from a split, and scores every item for some users."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Ints, Mask, Scores, unit
from vlm4rec_search.evaluation.data import Split, Targets, has_vector

NOT_FOUND = np.float32(-np.inf)


class System(ABC):
    """One way of ranking. Third parties register theirs under the entry point group `vlm4rec_search.systems`.

    Attributes:
        name: what the registry and the results call it.
        needs: kinds of item vectors (description, title, vision) that it reads from the catalogue.
        setting: what was chosen on validation, for people; empty where nothing was.
        learns: whether it has to be fitted on the validation part first, to find out there when to stop.
    """

    name: str
    needs: frozenset[str] = frozenset()
    setting: str = ""
    learns: bool = False

    def copies(self) -> "Sequence[System]":
        """Return the system once for each of its seeds; results are averaged over them, and their spread is shown."""
        return (self,)

    def variants(self) -> "Sequence[System]":
        """Return what to choose from on validation; by default there is nothing to choose."""
        return (self,)

    @abstractmethod
    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Learn from what had happened by the split's moment.

        Args:
            split: the only thing that may be learned from.
            validation: what came next, to stop early on or to choose by; None for the last fit, which sees it as part
                of the split.
        """

    @abstractmethod
    def scores(self, users: Ints) -> Scores:
        """Return float32 (b, n) for rows of the split's users (b,), higher is better; -inf is never ranked."""

    def covers(self) -> Mask | None:
        """Return which items (n,) it can rank, None for all; known after `fit`."""
        return None

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Return why each of some items (i,) is ranked high for a row of the split's users; empty where it cannot say.

        The last `fit` has to have been on the split that the user is of.
        """
        return [""] * len(items)


class CosineSystem(System):
    """Ranks by the cosine of an item's vector with the user's.

    Attributes:
        _split: the split of the last fit.
        _items: float32 (n, d) unit rows, zeros where an item has none.
        _profiles: float32 (u, d), likewise.
    """

    _split: Split
    _items: Scores
    _profiles: Scores

    def scores(self, users: Ints) -> Scores:
        """Return cosines, float32 (b, n); users without a vector and items without one are not ranked."""
        profiles = self._profiles[users]
        found: Scores = profiles @ self._items.T
        if not (covered := self._covered()).all():
            found[:, ~covered] = NOT_FOUND
        found[~has_vector(profiles)] = NOT_FOUND
        return found

    def covers(self) -> Mask | None:
        """Return which items have a vector, bool (n,)."""
        covered = self._covered()
        return None if covered.all() else covered

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Name the item of the history that speaks most for each item: the largest weight x cosine."""
        history = self._split.weights[[user]].tocoo()
        shares = history.data[:, None] * (self._items[history.coords[1]] @ self._items[items].T)
        if not len(shares):
            return [""] * len(items)
        best = history.coords[1][shares.argmax(axis=0)]
        titles = self._split.catalogue.titles[best]
        return [
            f'Resembles "{title}".' if share > 0 else ""
            for title, share in zip(titles, shares.max(axis=0), strict=True)
        ]

    def _covered(self) -> Mask:
        return has_vector(self._items)


class VectorSystem(CosineSystem):
    """A cosine with the user's mean vector, weighted as in the product's profiles."""

    @abstractmethod
    def item_vectors(self, split: Split) -> Scores:
        """Return float32 (n, d), one row for each item, zeros where it has none; any length."""

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Take the item vectors, and the mean of every user."""
        self._split = split
        self._items = unit(self.item_vectors(split))
        self._profiles = unit((split.weights @ self._items).astype(np.float32))


def require(split: Split, kind: str) -> Scores:
    """Return the vectors of a kind, float32 (n, d).

    Raises:
        UsageError: no item has one.
    """
    vectors = split.catalogue.vectors.get(kind)
    if vectors is None or not vectors.any():
        raise UsageError(f"no item has a {kind} vector")
    return vectors
