"""From what an index stores of shoppers and items to what queries work with; rows have the columns of a release."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from vlm4rec_search.search.retrievers import Interest, Item, User, Vector, Word

_NONE: Vector = np.empty(0, dtype=np.float32)


def user_of(user_id: str, row: Mapping[str, Any]) -> User:
    """Return the shopper whom a row of `users` tells of; a vector may be missing."""
    return User(
        user_id,
        vector=None if row.get("vector") is None else _vector(row["vector"]),
        words=_words(row["terms"]),
        history={part["item_id"]: part["weight"] for part in row["history"]},
        interests=tuple(
            Interest(_vector(part["vector"]), part["importance"], part["medoid"], tuple(part["items"]))
            for part in row["interests"]
        ),
        behaviour={part["item_id"]: part["weight"] for part in row["behaviour"]},
        seen=row["seen"],
        segment=row["segment"],
        categories=tuple(row["categories"]),
    )


def item_of(
    record: Mapping[str, Any],
    vector: Sequence[float] | Vector = _NONE,
    words: Sequence[Mapping[str, Any]] = (),
    neighbours: Mapping[str, float] = MappingProxyType({}),
) -> Item:
    """Return an item; `record` has item_id, title, category and price."""
    return Item(**record, vector=_vector(vector), words=_words(words), neighbours=neighbours)


def _words(parts: Sequence[Mapping[str, Any]]) -> dict[str, Word]:
    return {part["term"]: Word(part["word"], part["weight"]) for part in parts}


def _vector(values: Sequence[float] | Vector) -> Vector:
    return np.asarray(values, dtype=np.float32)
