"""What a search asks an index for."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from vlm4rec_search.search.filters import Filter
from vlm4rec_search.search.fusion import Floats, Integers
from vlm4rec_search.search.query import Kind, Tier


class Record(TypedDict):
    """What a hit shows of its document."""

    item_id: str
    title: str
    category: str | None
    price: float | None


Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Word:
    """A term of a lexical leg: the surface form that people read, and the factor of the term's BM25."""

    form: str
    weight: float


@dataclass(frozen=True, slots=True, eq=False)  # a key by what it is: vectors do not compare
class Leg:
    """One ranking, told by its kind: `vector` (d,) of length 1 is semantic, `words` by term are lexical, `items` with
    their scores are behaviour or a segment's popularity; a popularity leg without items is everybody's.

    Attributes:
        name: profile, interest, session, text, words, co-purchase or popularity.
        weight: share in the fusion among the legs of its kind.
        sources: of an interest, the history items that its vector is the mean of.
    """

    name: str
    kind: Kind
    vector: Vector | None = None
    words: Mapping[str, Word] = field(default_factory=dict)
    items: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Interest:
    """One of a shopper's tastes.

    Attributes:
        vector: (d,) of length 1.
        importance: share of the history; those of a shopper sum to 1.
        medoid: the item that stands for it.
        items: those that the vector is the mean of, weighted as in the history.
    """

    vector: Vector
    importance: float
    medoid: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User:
    """What an index knows of a shopper.

    Attributes:
        vector: unit vector (d,); None where nothing speaks for a direction.
        words: weighted words by term.
        history: item ids with weights such that the vector is the sum of weight x item vector.
        behaviour: items from which co-purchases start, with their weights.
        seen: item ids that answers leave out.
        segment: of the catalogue's users file.
        categories: favourite ones, best first.
    """

    user_id: str
    vector: Vector | None = None
    words: Mapping[str, Word] = field(default_factory=dict)
    history: Mapping[str, float] = field(default_factory=dict)
    interests: tuple[Interest, ...] = ()
    behaviour: Mapping[str, float] = field(default_factory=dict)
    seen: Sequence[str] = ()
    segment: str | None = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """What an index knows of an item: vector (d,), weighted words by term, and neighbours by co-purchase."""

    item_id: str
    title: str
    category: str | None
    price: float | None
    vector: Vector
    words: Mapping[str, Word] = field(default_factory=dict)
    neighbours: Mapping[str, float] = field(default_factory=dict)


# From what an index stores of shoppers and items to what queries work with; rows have the columns of a release.

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


@dataclass(frozen=True, slots=True)
class Request:
    """Legs, conditions that hold inside every leg, and item ids that none may return.

    Attributes:
        user: whose `seen` is part of what is left out, for a server that looks it up; None where nobody's is.
        without: item ids to leave out besides.
        depth: candidates of each leg at most.
        begun: what `Index.begin` has returned for some of the legs; only the index knows what will be in it.
    """

    legs: Sequence[Leg]
    conditions: tuple[Filter, ...]
    user: User | None
    without: Sequence[str]
    depth: int
    begun: Mapping[Leg, Future[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The tier, what the index is asked with the weight of each leg (at least one), and whom it is about.

    A leg of weight 0 only finds what a rule pins.

    Attributes:
        user: None for nobody, or one that the release does not know.
        session: what the session's items say, None without a session.
        sources: items from which the co-purchases come, by id.
        otherwise: whether the shopper's profile would have had something to say, but the ladder has others speak.
    """

    tier: Tier
    request: Request
    weights: Sequence[float]
    user: User | None
    session: User | None
    sources: Mapping[str, Item]
    otherwise: bool = False

    @property
    def legs(self) -> Sequence[Leg]:
        """Return the legs of the request."""
        return self.request.legs


PINNED = "pinned"  # name of the leg that finds pinned items; it has no weight in the fusion


@dataclass(frozen=True, slots=True)
class Ranked:
    """The hits, best first.

    Attributes:
        documents: int64 (b,), their numbers.
        scores: float64 (b,), after boosts; 0 for a pinned item that no leg found.
        contributions: float64 (b, legs), what each leg added before boosts.
        records: what hits show.
        notes: what rules, diversity and caps did to each hit, for people.
    """

    documents: Integers
    scores: Floats
    contributions: Floats
    records: "Sequence[Record]"
    notes: Sequence[tuple[str, ...]]
