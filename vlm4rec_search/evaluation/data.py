"""The data of an evaluation: what systems may see (`Split`), and the relevant items (`Targets`)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.vectors import Ints, Mask, Scores, Texts, Times
from vlm4rec_search.indexes.search_layer import SearchLayer


class Targets(NamedTuple):
    """The relevant items of each user.

    Attributes:
        users: (u,) rows of the split's users, ascending; each has at least one target.
        relevant: (u, n), 1 where the user took the item.
    """

    users: Ints
    relevant: sparse.csr_array

    def within(self, items: Mask) -> "Targets":
        """Return the targets among some items (n,), and only the users who have one."""
        kept = sparse.csr_array(self.relevant.multiply(items[None, :].astype(np.float32)))
        kept.eliminate_zeros()
        has_one = np.diff(kept.indptr) > 0
        return Targets(self.users[has_one], kept[has_one])

    def some(self, most: int, seed: int) -> "Targets":
        """Return the targets of at most `most` users, drawn at random."""
        count = len(self.users)
        rows = np.sort(np.random.default_rng(seed).choice(count, min(count, most), replace=False))
        return Targets(self.users[rows], self.relevant[rows])


def are_set(matrix: sparse.csr_array, rows: Ints, columns: Ints) -> Mask:
    """Return whether cells of a matrix are above 0; where none are asked for, scipy returns another matrix."""
    return np.asarray(matrix[rows, columns]).ravel() > 0 if len(rows) else np.zeros(0, dtype=np.bool_)


@dataclass(frozen=True)
class Catalogue:
    """The n items of search.item_documents, by id.

    Attributes:
        item_ids: (n,), sorted.
        titles: (n,).
        images: (n,), path of the photo in the data folder, a URL, or None.
        vectors: by kind float32 (n, d): unit rows, zeros where an item has none. `document` is what is searched;
            description, title and vision are embedded alone; `photo` is embeddings.image_embeddings, whatever vectors
            of photos the data set brings along.
    """

    item_ids: Texts
    titles: Texts
    images: Texts
    vectors: dict[str, Scores]

    def covered(self, kind: str) -> Mask:
        """Return which items have a vector of this kind, bool (n,)."""
        return has_vector(self.vectors[kind])

    def positions(self, item_ids: npt.ArrayLike) -> Ints:
        """Return the rows of items, -1 for unknown ones."""
        return pd.Index(self.item_ids).get_indexer(pd.Index(np.asarray(item_ids, dtype=object))).astype(np.int64)


@dataclass(frozen=True)
class Split:
    """What a system may see; nothing in it happened after `as_of`.

    Attributes:
        catalogue: the items.
        user_ids: (u,), every user with a history, sorted.
        users: (m,) row of the user of each interaction; interactions stand in order of user, then time.
        items: (m,) row of its item.
        times: (m,) when.
        weights: (u, n), as profiles.profile_weights computes them, with a half-life that no ranking file moves.
        as_of: the moment.
        candidates: (n,), which items may be ranked.
        repeat: whether items of the history may be ranked, too.
        seed: of everything random.
        tables: the product's own search layer at that moment; None in tests that do without it.
        profile_weights: (u, n), profiles.profile_weights of the ranking file; None without tables.
        counts: (u, n), 1 where an event of the user with the item has a weight, hidden and sent back items, too; None
            without tables.
    """

    catalogue: Catalogue
    user_ids: Texts
    users: Ints
    items: Ints
    times: Times
    weights: sparse.csr_array
    as_of: np.datetime64
    candidates: Mask
    repeat: bool = False
    seed: int = 7
    tables: "SearchLayer | None" = None
    profile_weights: sparse.csr_array | None = None
    counts: sparse.csr_array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of users and items."""
        return len(self.user_ids), len(self.catalogue.item_ids)

    @cached_property
    def seen(self) -> sparse.csr_array:
        """(u, n), 1 where the item is in the user's history."""
        return incidence(self.users, self.items, self.shape)

    @property
    def excluded(self) -> sparse.csr_array:
        """(u, n), 1 where answers leave the item out, as those of a release do, and where taking it is nothing new."""
        return self.seen if self.counts is None else self.counts

    @cached_property
    def popularity(self) -> Ints:
        """(n,), how many users have the item in their history."""
        return np.bincount(self.seen.indices, minlength=self.shape[1]).astype(np.int64)

    @cached_property
    def first_seen(self) -> Times:
        """(n,), when each item was first taken, NaT for items without interactions."""
        first = np.full(self.shape[1], np.datetime64("9999-12-31"), dtype="datetime64[us]")
        np.minimum.at(first, self.items, self.times)
        first[self.popularity == 0] = np.datetime64("NaT")
        return first

    @cached_property
    def latest(self) -> Ints:
        """(p,), the rows of the latest interaction of each user and item, ascending."""
        pairs = self.users * self.shape[1] + self.items
        _, newest = np.unique(pairs[::-1], return_index=True)
        return np.sort(len(pairs) - 1 - newest)

    def among(self, items: Mask) -> "Split":
        """Return the same split with some of the candidates."""
        return replace(self, candidates=self.candidates & items)


def has_vector(rows: Scores) -> Mask:
    """Return which rows (n, d) are not all zeros, bool (n,)."""
    return np.asarray(rows.any(axis=1), dtype=np.bool_)


def incidence(users: Ints, items: Ints, shape: tuple[int, int]) -> sparse.csr_array:
    """Return the matrix float32 `shape` with 1 for every pair, however often it occurs."""
    matrix = sparse.coo_array((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape).tocsr()
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
