"""The base class of evaluation systems: a system learns from a split and scores every item for some users."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Ints, Mask, Scores, unit
from vlm4rec_search.evaluation.data import Split, Targets, has_vector

NOT_FOUND = np.float32(-np.inf)


class System(ABC):
    """One way of ranking items for users.

    Other packages register a factory without arguments under the entry-point group `vlm4rec_search.systems`; the name
    of the entry point is the system's name. An evaluation calls `copies`, then `variants` of each copy, fits the
    variants on the validation part, fits the best one again for the test part, and scores it once.

    Attributes:
        name: in the registry and in the results.
        needs: kinds of item vectors (description, title, vision) that it reads from the catalogue.
        setting: what was chosen on validation, in words; empty where there is nothing to choose.
        learns: whether `fit` needs the validation part to find out when to stop training.
    """

    name: str
    needs: frozenset[str] = frozenset()
    setting: str = ""
    learns: bool = False

    def copies(self) -> "Sequence[System]":
        """Return one system for each random seed; results are their mean, and the report shows their spread."""
        return (self,)

    def variants(self) -> "Sequence[System]":
        """Return the candidates among which validation chooses; by default the system itself."""
        return (self,)

    def default(self) -> "System":
        """Return what is taken where there is no validation part to choose on; by default the system itself."""
        return self

    @abstractmethod
    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Learn from the interactions before the split's moment.

        Args:
            split: the only data that the system may learn from.
            validation: what users took next, for early stopping or choosing; None in the last fit, whose split
                contains it.
        """

    @abstractmethod
    def scores(self, users: Ints) -> Scores:
        """Return float32 (b, n) for rows of the split's users (b,); higher is better, -inf is never ranked."""

    def covers(self) -> Mask | None:
        """Return which items it can rank, bool (n,), None for all; call it after `fit`."""
        return None

    def among(self, split: Split) -> "System":
        """Return the fitted system for a comparison of fewer candidates.

        By default it is the system itself. One that ranks only its best candidates has to find them among these.

        Args:
            split: of the last fit, with some of its candidates.
        """
        return self

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Return a sentence for each item (i,) that says why it is ranked high for a user, empty without a reason.

        Args:
            user: row of the users of the last fitted split.
            items: item numbers.
        """
        return [""] * len(items)


class UpperBound(System):
    """Is told the answers before it is scored: how much could be gained. It is no system to compare with."""

    @abstractmethod
    def reveal(self, targets: Targets) -> None:
        """Learn what has to be found, after `fit`."""


class CosineSystem(System):
    """Ranks by the cosine of an item's vector with the user's.

    Attributes:
        _split: the split of the last fit.
        _items: float32 (n, d) unit rows, zeros for items without a vector.
        _profiles: float32 (u, d) unit rows, zeros for users without a vector.
    """

    _split: Split
    _items: Scores
    _profiles: Scores

    def scores(self, users: Ints) -> Scores:
        """Return cosines, float32 (b, n); users and items without a vector are not ranked."""
        profiles = self._profiles[users]
        cosines: Scores = profiles @ self._items.T
        if not (covered := self._covered()).all():
            cosines[:, ~covered] = NOT_FOUND
        cosines[~has_vector(profiles)] = NOT_FOUND
        return cosines

    def covers(self) -> Mask | None:
        """Return which items have a vector, bool (n,)."""
        covered = self._covered()
        return None if covered.all() else covered

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Name the history item with the largest weight x cosine."""
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
    """Ranks by the cosine with the mean of the history's vectors, weighted like the product's profiles."""

    @abstractmethod
    def item_vectors(self, split: Split) -> Scores:
        """Return float32 (n, d), one row for each item, of any length, zeros for items without a vector."""

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Keep the item vectors and the mean vector of every user."""
        self._split = split
        self._items = unit(self.item_vectors(split))
        self._profiles = unit((split.weights @ self._items).astype(np.float32))


def require(split: Split, kind: str) -> Scores:
    """Return the vectors of a kind, float32 (n, d).

    Raises:
        UsageError: no item has a vector of this kind.
    """
    vectors = split.catalogue.vectors.get(kind)
    if vectors is None or not vectors.any():
        raise UsageError(f"no item has a {kind} vector")
    return vectors
