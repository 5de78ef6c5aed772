"""Collaborative filtering as others do it, with recency where it helps: the rows that a ranking has to beat.

An item of a history weighs 0.5^(age / half-life), age from its latest event to the moment of the split. Half-lives and
all other settings are chosen on validation; without a half-life every item weighs 1, as in the papers.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from vlm4rec_search.common.errors import UsageError, missing_extra
from vlm4rec_search.common.vectors import Floats, Ints, Mask, Scores
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System
from vlm4rec_search.evaluation.systems.behaviour import LONGEST
from vlm4rec_search.profiles.ease import regularised_inverse

HALF_LIVES = (10.0, 20.0, 40.0, 160.0, math.inf)  # days; without an end nothing is forgotten
_DAY = 86_400_000_000  # microseconds


def recent_histories(split: Split, half_life: float) -> sparse.csr_array:
    """Return 0.5^(age / half-life in days) of the latest event of each user and item, float32 (u, n).

    Args:
        split: the histories.
        half_life: days; inf makes every weight 1.
    """
    rows = split.latest
    ages = (split.as_of - split.times[rows]).astype("timedelta64[us]").astype(np.int64) / _DAY
    cells = ((0.5 ** (ages / half_life)).astype(np.float32), (split.users[rows], split.items[rows]))
    return sparse.coo_array(cells, shape=split.shape).tocsr()


def _in_words(half_life: float) -> str:
    return "no half-life" if math.isinf(half_life) else f"half-life {half_life:g} days"


class _ItemToItem(System):
    """Adds up coefficients from the items of the history, each with its recency.

    Attributes:
        _coefficients: float32 (m, m) among the items `_items` (m,) that the model knows, zeros on the diagonal.
    """

    _items: Ints
    _coefficients: Scores

    def __init__(self, name: str, half_life: float) -> None:
        self.name, self.half_life = name, half_life

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Compute the coefficients of the most recent items from all histories of up to `LONGEST` items.

        Raises:
            UsageError: there is no such history, or its events are so old that they weigh nothing.
        """
        self._split, self._histories = split, recent_histories(split, self.half_life)
        learned = self._histories[np.diff(self._histories.indptr) <= LONGEST]
        weights = np.asarray(learned.sum(axis=0)).ravel()
        if not weights.any():
            raise UsageError(f"there is nothing to learn from: no user with {LONGEST:,} items or fewer took one lately")
        most = min(MOST if validation is None else MOST_WHILE_CHOOSING, int((weights > 0).sum()))
        self._items = np.sort(np.argsort(-weights, kind="stable")[:most])
        together = learned[:, self._items]
        self._coefficients = self._fit(np.asarray((together.T @ together).todense(), dtype=np.float32))
        np.fill_diagonal(self._coefficients, 0.0)

    @abstractmethod
    def _fit(self, gram: Scores) -> Scores:
        """Return the coefficients (m, m) from the products X^T X (m, m) of the weighted histories."""

    def scores(self, users: Ints) -> Scores:
        """Return sums of weight x coefficient, float32 (b, n); what has no sum above 0 is not ranked."""
        scores = np.full((len(users), self._split.shape[1]), NOT_FOUND, dtype=np.float32)
        found = self._histories[users][:, self._items] @ self._coefficients
        scores[:, self._items] = np.where(found > 0, found, NOT_FOUND)
        return scores

    def reasons(self, user: int, items: Ints) -> list[str]:
        """Name the item of the history that adds most."""
        history = self._histories[[user]][:, self._items].tocoo()
        places = np.searchsorted(self._items, items)
        if not len(history.data):
            return [""] * len(items)
        shares = history.data[:, None] * self._coefficients[history.coords[1]][:, places]
        best = self._items[history.coords[1][shares.argmax(axis=0)]]
        return [f'Follows from "{title}".' for title in self._split.catalogue.titles[best]]


MOST = 10_000  # items of an item-to-item model, the most recent ones: more need gigabytes and minutes
MOST_WHILE_CHOOSING = 4_000  # the same where settings are chosen among many
LAMBDAS = (30.0, 100.0, 300.0, 1_000.0)


class Ease(_ItemToItem):
    """EASE (Steck, WWW 2019): the linear model of histories by histories, without self-similarity, in closed form."""

    def __init__(self, half_life: float = HALF_LIVES[1], strength: float = LAMBDAS[2]) -> None:
        super().__init__("ease", half_life)
        self.strength = strength
        self.setting = f"{_in_words(half_life)}, lambda {strength:g}"

    def variants(self) -> Sequence[System]:
        """Return one system for each half-life and each of `LAMBDAS`."""
        return [Ease(*chosen) for chosen in product(HALF_LIVES, LAMBDAS)]

    def _fit(self, gram: Scores) -> Scores:
        """Return -P_ij / P_jj with P = (X^T X + lambda)^-1.

        Raises:
            RunError: lambda is too small for single precision.
        """
        coefficients = regularised_inverse(gram, self.strength)
        coefficients /= -np.diag(coefficients)
        return coefficients


EXPONENTS = (0.25, 0.5)  # of an item's length: 0.5 is the cosine
SHRINKAGES = (0.0, 5.0)


class ItemKNN(_ItemToItem):
    """Items by cosine of their users, each with its recency (Deshpande and Karypis, TOIS 2004).

    A smaller exponent of the items' lengths favours popular items, a shrinkage those pairs that many users took
    together lately (Koren, KDD 2008).
    """

    def __init__(
        self, half_life: float = HALF_LIVES[1], exponent: float = EXPONENTS[0], shrinkage: float = SHRINKAGES[0]
    ) -> None:
        super().__init__("item-knn", half_life)
        self.exponent, self.shrinkage = exponent, shrinkage
        self.setting = f"{_in_words(half_life)}, exponent {exponent:g}, shrinkage {shrinkage:g}"

    def variants(self) -> Sequence[System]:
        """Return one system for each half-life, each of `EXPONENTS` and each of `SHRINKAGES`."""
        return [ItemKNN(*chosen) for chosen in product(HALF_LIVES, EXPONENTS, SHRINKAGES)]

    def _fit(self, gram: Scores) -> Scores:
        """Return x_i . x_j / (|x_i| |x_j|)^(2 exponent) x (x_i . x_j) / (x_i . x_j + shrinkage)."""
        scale = np.power(np.maximum(np.diag(gram), 1e-12), -self.exponent).astype(np.float32)
        coefficients: Scores = gram * scale[:, None] * scale[None, :]
        if self.shrinkage:
            coefficients *= gram / (gram + np.float32(self.shrinkage))
        return coefficients


NEIGHBOURS = (100, 200, 500, 1_000)
_BLOCK = 8_000_000  # similarities at once: 32 MB


class UserKNN(System):
    """What the users with the most similar histories took: the sum of cosine x recency over the nearest k users."""

    name = "user-knn"

    def __init__(self, half_life: float = HALF_LIVES[0], neighbours: int = NEIGHBOURS[2]) -> None:
        self.half_life, self.neighbours = half_life, neighbours
        self.setting = f"{_in_words(half_life)}, {neighbours} neighbours"

    def variants(self) -> Sequence[System]:
        """Return one system for each half-life and each of `NEIGHBOURS`."""
        return [UserKNN(*chosen) for chosen in product(HALF_LIVES, NEIGHBOURS)]

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Keep the weighted histories, and the same of length 1."""
        self._histories = recent_histories(split, self.half_life)
        lengths = np.sqrt(np.asarray(self._histories.multiply(self._histories).sum(axis=1)).ravel())
        scale = (1.0 / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
        self._unit = sparse.csr_array(sparse.diags_array(scale) @ self._histories)

    def scores(self, users: Ints) -> Scores:
        """Return the sums, float32 (b, n); items that no neighbour took are not ranked."""
        step = max(1, _BLOCK // self._histories.shape[0])
        parts = [self._near(users[low : low + step]) @ self._histories for low in range(0, len(users), step)]
        found = np.vstack([part.toarray() for part in parts])
        return np.where(found > 0, found, NOT_FOUND).astype(np.float32)

    def _near(self, users: Ints) -> sparse.csr_array:
        """Return the cosine of each user (b,) with the nearest others, (b, u)."""
        similar = (self._unit[users] @ self._unit.T).toarray()
        similar[np.arange(len(users)), users] = 0.0
        if self.neighbours < similar.shape[1]:
            last = np.partition(similar, -self.neighbours, axis=1)[:, -self.neighbours]
            similar[similar < last[:, None]] = 0.0
        return sparse.csr_array(similar)


FACTOR_HALF_LIVES = (20.0, 60.0, math.inf)  # days
FACTORS = (32, 64)
_ITERATIONS = {"als": 15, "bpr": 100}
_REGULARIZATION = {"als": 1.0, "bpr": 0.01}


class Factors(System):
    """Matrix factorization by the package `implicit`: ALS (Hu et al., ICDM 2008) or BPR (Rendle et al., UAI 2009)."""

    def __init__(self, name: str, half_life: float = FACTOR_HALF_LIVES[1], factors: int = FACTORS[1]) -> None:
        """Factorize weighted histories.

        Args:
            name: als or bpr; BPR uses no weights, so that the half-life plays no role.
            half_life: days.
            factors: dimensions.
        """
        self.name, self.half_life, self.factors = name, half_life, factors
        recency = f"{_in_words(half_life)}, " if name == "als" else ""
        self.setting = f"{recency}{factors} factors"

    def variants(self) -> Sequence[System]:
        """Return one system for each number of factors, and for ALS each half-life."""
        half_lives = FACTOR_HALF_LIVES if self.name == "als" else FACTOR_HALF_LIVES[:1]
        return [Factors(self.name, *chosen) for chosen in product(half_lives, FACTORS)]

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Factorize, in one thread and from the split's seed, so that the numbers can be repeated.

        Raises:
            UsageError: `implicit` is not installed.
        """
        try:
            from implicit.als import AlternatingLeastSquares
            from implicit.bpr import BayesianPersonalizedRanking
        except ImportError as error:
            raise missing_extra(error, "peers") from None

        kinds = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}
        with threadpool_limits(1, "blas"):
            model = kinds[self.name](
                factors=self.factors,
                iterations=_ITERATIONS[self.name],
                regularization=_REGULARIZATION[self.name],
                random_state=split.seed,
                num_threads=1,
            )
            model.fit(sparse.csr_matrix(recent_histories(split, self.half_life)), show_progress=False)
        self._users, self._items = np.asarray(model.user_factors), np.asarray(model.item_factors)
        self._known: Mask = split.popularity > 0

    def scores(self, users: Ints) -> Scores:
        """Return inner products, float32 (b, n); items without an interaction are not ranked."""
        found: Floats = self._users[users] @ self._items.T
        return np.where(self._known, found, NOT_FOUND).astype(np.float32)
