"""Sums over a shopper's neighbours: the same for one shopper, for many, and from what a server answers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from vlm4rec_search.indexes.embedded.neighbours import StoredNeighbours, sum_related
from vlm4rec_search.search.model import MAX_ITEMS, Item
from vlm4rec_search.search.retrievers import ReadNeighbours

IDS = sorted({*(f"i{number}" for number in range(1_190)), *(f"{chr(0xE9 + number)}x" for number in range(10))})


def release(related: sparse.csr_array) -> Any:
    """Return what the sums use of a release."""
    names = np.array(IDS, dtype=object)
    numbers = {item: number for number, item in enumerate(IDS)}
    return SimpleNamespace(
        numbers=numbers, neighbours=related, ease=related, ids=lambda documents: names[documents].tolist()
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("starts", [0, 1, 40])
def test_all_ways_give_the_same_sums(ties: bool, starts: int) -> None:
    draw = np.random.default_rng(starts)
    counts = draw.integers(0, 100, len(IDS))
    columns = np.concatenate([draw.choice(len(IDS), count, replace=False) for count in counts])
    values = draw.choice([0.1, 0.25, -0.1, 1e-7], len(columns)) if ties else draw.normal(0.5, size=len(columns))
    related = sparse.csr_array((values, columns, np.cumsum([0, *counts])), shape=(len(IDS), len(IDS)))
    store, picked = release(related), [*draw.choice(IDS, starts, replace=False).tolist(), "gone"]
    weights = dict(zip(picked, draw.uniform(0.1, 2.0, len(picked)).tolist(), strict=True))
    without = [*draw.choice(IDS, 50).tolist(), "nope"]
    rows = {item: slice(*related.indptr[(row := store.numbers[item]) : row + 2].tolist()) for item in picked[:-1]}
    near = {item: dict(zip(store.ids(columns[row]), values[row].tolist(), strict=True)) for item, row in rows.items()}
    items = {item: Item(item, item, None, None, np.empty(0), neighbours=each) for item, each in near.items()}
    read = ReadNeighbours(items).sum("behaviour", weights, without)
    assert [*StoredNeighbours(store, picked).sum("behaviour", weights, without).items()] == [*read.items()]
    assert [*sum_related(store, related, [weights], [without])[0].items()] == [*read.items()]
    assert not set(read) & set(without)
    assert list(read.items()) == sorted(read.items(), key=lambda pair: (-pair[1], pair[0]))
    assert len(read) == (MAX_ITEMS if starts == 40 else len(read))


def test_reasons_read_the_values_for_the_hits_alone() -> None:
    related = sparse.csr_array(([0.5, 0.25, 0.125], [1, 2, 0], [0, 2, 3, *[3] * (len(IDS) - 2)]), shape=(len(IDS),) * 2)
    store = release(related)
    store.records = lambda rows: [{"item_id": IDS[row], "title": "", "category": None, "price": None} for row in rows]
    found = StoredNeighbours(store, [IDS[0], "gone", IDS[1]]).items([IDS[2], "nope"])
    assert {item: dict(each.neighbours) for item, each in found.items()} == {IDS[0]: {IDS[2]: 0.25}, IDS[1]: {}}
