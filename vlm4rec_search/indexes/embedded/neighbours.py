"""Co-purchases and EASE from the matrices of a release."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy import sparse

from vlm4rec_search.common.vectors import Floats, Ints, Mask
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.indexes.rows import to_item
from vlm4rec_search.search.model import MAX_ITEMS, Item, Neighbours
from vlm4rec_search.search.query import ItemToItem


class StoredNeighbours(Neighbours):
    """Neighbours that are read where they are used: sums need no names, and reasons only values for the hits."""

    def __init__(self, store: Store, item_ids: Sequence[str]) -> None:
        """Keep the numbers of those items that the release has."""
        self._store = store
        self._starts = [store.numbers[item] for item in item_ids if item in store.numbers]

    def sum(self, kind: ItemToItem, weights: Mapping[str, float], without: Collection[str] = ()) -> dict[str, float]:
        store = self._store
        related = store.neighbours if kind == "behaviour" else store.ease
        known = [(store.numbers[item], weight) for item, weight in weights.items() if item in store.numbers]
        if not known:
            return {}
        # A product of matrices, as for many shoppers, takes memory for each document of the release. Both add in order.
        slices = [slice(*related.indptr[start : start + 2].tolist()) for start, _ in known]
        values = [related.data[cells] * weight for cells, (_, weight) in zip(slices, known, strict=True)]
        documents, places = np.unique(np.concatenate([related.indices[cells] for cells in slices]), return_inverse=True)
        sums = np.zeros(len(documents))
        np.add.at(sums, places, np.concatenate(values))
        hidden = np.isin(documents, [store.numbers[item] for item in without if item in store.numbers])
        return _largest(store, documents, sums, hidden)

    def items(self, others: Collection[str]) -> dict[str, Item]:
        if not self._starts:
            return {}
        store, known = self._store, [item for item in others if item in self._store.numbers]
        documents = np.array([store.numbers[item] for item in known], dtype=np.int64)
        values = [
            [{item: value for item, value in zip(known, row, strict=True) if value} for row in rows]
            for rows in (_cells(related, self._starts, documents) for related in (store.neighbours, store.ease))
        ]
        return {
            record["item_id"]: to_item(record, neighbours=near, ease=fitting)
            for record, near, fitting in zip(store.records(self._starts), *values, strict=True)
        }


def _cells(matrix: sparse.csr_array, rows: Sequence[int], columns: Ints) -> list[list[float]]:
    """Return the cells of some rows and columns; a few are found faster than scipy cuts them out."""
    places = np.full(matrix.shape[1], -1)
    places[columns] = np.arange(len(columns))
    slices = [slice(*matrix.indptr[row : row + 2].tolist()) for row in rows]
    of_row = np.repeat(np.arange(len(rows)), [each.stop - each.start for each in slices])
    place = places[np.concatenate([matrix.indices[each] for each in slices])]
    there = np.flatnonzero(place >= 0)
    cells = np.zeros((len(rows), len(columns)))
    cells[of_row[there], place[there]] = np.concatenate([matrix.data[each] for each in slices])[there]
    return cells.tolist()


def sum_related(
    store: Store,
    related: sparse.csr_array,
    weights: Sequence[Mapping[str, float]],
    without: Sequence[Collection[str]],
) -> list[dict[str, float]]:
    """Return the `MAX_ITEMS` items with the largest sums of weight x coefficient of each shopper, see `Neighbours.sum`.

    Args:
        store: numbers the items.
        related: coefficients from item to item, float64 (n, n).
        weights: of each shopper's items, by id; items that the release does not have add nothing.
        without: item ids that each shopper's sums leave out.
    """
    starts = [[(store.numbers[item], weight) for item, weight in each.items() if item in store.numbers]
              for each in weights]  # fmt: skip
    sums = _rows(starts, len(store.numbers)) @ related
    hidden = np.zeros(len(store.numbers), dtype=np.bool_)
    found = []
    for row, items in enumerate(without):
        cells = slice(*sums.indptr[row : row + 2])
        left_out = [store.numbers[item] for item in items if item in store.numbers]
        hidden[left_out] = True
        found.append(_largest(store, sums.indices[cells], sums.data[cells], hidden[sums.indices[cells]]))
        hidden[left_out] = False
    return found


def _rows(cells: Sequence[Sequence[tuple[int, float]]], columns: int) -> sparse.csr_array:
    """Return a matrix with these cells, whose order in a row is kept: a product adds in it."""
    ends = np.cumsum([0, *(len(row) for row in cells)])
    numbers = np.array([number for row in cells for number, _ in row], dtype=np.int64)
    values = np.array([value for row in cells for _, value in row])
    return sparse.csr_array((values, numbers, ends), shape=(len(cells), columns))


def _largest(store: Store, documents: Ints, sums: Floats, hidden: Mask) -> dict[str, float]:
    """Return the `MAX_ITEMS` items with the largest sums above 0 by id, equal ones by document; all arrays are (b,)."""
    values = sums.round(6)
    kept = (values > 0.0) & ~hidden
    documents, values = documents[kept], values[kept]
    if len(values) > MAX_ITEMS:
        near = values >= np.partition(values, -MAX_ITEMS)[-MAX_ITEMS]
        documents, values = documents[near], values[near]
    order = np.lexsort((documents, -values))[:MAX_ITEMS]
    return dict(zip(store.ids(documents[order]), values[order].tolist(), strict=True))
