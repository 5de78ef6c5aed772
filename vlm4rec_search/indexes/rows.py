"""From the rows and documents of a release to the shoppers and items of a search."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from vlm4rec_search.search.model import Document, Interest, Item, Repeat, User, Vector, Word

DOCUMENT_FIELDS = ("title", "category", "price", "description", "caption", "available", "image", "attributes")
_NO_VECTOR: Vector = np.empty(0, dtype=np.float32)


def to_user(user_id: str, row: Mapping[str, Any]) -> User:
    """Return the shopper of a row with the columns of a release's table `users`; the vector may be missing."""
    return User(
        user_id,
        vector=None if row.get("vector") is None else _to_vector(row["vector"]),
        words=_to_words(row["terms"]),
        history={entry["item_id"]: entry["weight"] for entry in row["history"]},
        interests=tuple(
            Interest(_to_vector(entry["vector"]), entry["importance"], entry["medoid"], tuple(entry["items"]))
            for entry in row.get("interests") or ()
        ),
        behaviour={entry["item_id"]: entry["weight"] for entry in row["behaviour"]},
        lasting={entry["item_id"]: entry["lasting"] for entry in row["behaviour"]},
        shoppers={entry["item_id"]: entry["score"] for entry in row["shoppers"]},
        repeats={
            entry["item_id"]: Repeat(entry["score"], entry["times"], entry["last_on"]) for entry in row["repeats"]
        },
        fitted=None if row.get("fitted") is None else _to_vector(row["fitted"]),
        seen=row["seen"],
        segment=row["segment"],
        categories=tuple(row["categories"]),
    )


def to_item(
    record: Mapping[str, Any],
    vector: Sequence[float] | Vector = _NO_VECTOR,
    words: Sequence[Mapping[str, Any]] = (),
    neighbours: Mapping[str, float] = MappingProxyType({}),
    ease: Mapping[str, float] = MappingProxyType({}),
    fitted: Sequence[float] | Vector | None = None,
    photo: Sequence[float] | Vector | None = None,
) -> Item:
    """Return the item of a record with item_id, title, category and price."""
    return Item(
        **record,
        vector=_to_vector(vector),
        words=_to_words(words),
        neighbours=neighbours,
        ease=ease,
        fitted=None if fitted is None else _to_vector(fitted),
        photo=None if photo is None else _to_vector(photo),
    )


def to_document(row: Mapping[str, Any]) -> Document:
    """Return the document of a row with `DOCUMENT_FIELDS`, of which a hand-written one may lack some."""
    attributes = row.get("attributes") or {}
    return Document(
        item_id=row["item_id"],
        title=row.get("title") or "",
        category=row.get("category"),
        price=row.get("price"),
        description=row.get("description"),
        caption=row.get("caption"),
        available=row.get("available"),
        image=row.get("image"),
        attributes=json.loads(attributes) if isinstance(attributes, str) else attributes,
    )


def _to_words(entries: Sequence[Mapping[str, Any]]) -> dict[str, Word]:
    return {entry["term"]: Word(entry["word"], entry["weight"]) for entry in entries}


def _to_vector(values: Sequence[float] | Vector) -> Vector:
    return np.asarray(values, dtype=np.float32)
