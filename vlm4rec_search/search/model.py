"""The nouns of a search: shoppers, items, retrievers, the request to an index, the plan, and the ranked hits."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypedDict

from vlm4rec_search.common.analyzer import ENGLISH, Analyzer
from vlm4rec_search.common.vectors import Floats, Ints, Scores
from vlm4rec_search.search.filters import Filter
from vlm4rec_search.search.query import Fusion, ItemToItem, Kind, Origin, Query, Standing, Tier
from vlm4rec_search.search.rules import Rule

BUY_AGAIN = "buy-again"  # name of the retriever of items of the history
MAX_ITEMS = 500  # items of a co-purchase retriever: a server takes each of them as a clause
PINNED = "pinned"  # name of the retriever that finds pinned items; its weight in the fusion is 0

Vector: TypeAlias = Scores
"""A unit vector, float32 (d,)."""


class Record(TypedDict):
    """The columns of a document that a hit shows."""

    item_id: str
    title: str
    category: str | None
    price: float | None


class Document(Record):
    """What the shop and the captioner say of an item.

    `attributes` are the shop's other columns and the captioner's findings, by name.
    """

    description: str | None
    caption: str | None
    available: bool | None
    image: str | None
    attributes: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Word:
    """A term of a lexical retriever: the surface form that people read, and the factor of the term's BM25 score."""

    form: str
    weight: float


@dataclass(frozen=True, slots=True, eq=False)  # two retrievers are never equal: arrays have no truth value
class Retriever:
    """One ranking of the documents that takes part in the fusion.

    The kind decides how documents are scored: `vector` of length 1 is semantic, fitted or of a photo, `words` by term
    are lexical, `items` with their scores are those of co-purchases, EASE or similar shoppers, or the popular ones of a
    segment. A popularity retriever without `items` ranks by the popularity of every document.

    Attributes:
        name: profile, interest, session, text, words, photo, co-purchase, ease, shoppers, fitted, popularity,
            buy-again or pinned.
        weight: share in the fusion among the retrievers of the same kind.
        sources: of an interest, the history items whose vectors it averages.
        origin: whether it comes from the profile or the session; None where from neither.
    """

    name: str
    kind: Kind
    vector: Vector | None = None
    words: Mapping[str, Word] = field(default_factory=dict)
    items: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    sources: tuple[str, ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Interest:
    """One of a shopper's interests.

    Attributes:
        vector: (d,) of length 1.
        importance: share of the history; the shares of a shopper sum to 1.
        medoid: the item that stands for the interest.
        items: the history items whose weighted mean the vector is.
    """

    vector: Vector
    importance: float
    medoid: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """An item of the history that the shopper may buy again.

    Attributes:
        score: by count and recency, 1 for the shopper's first.
        times: days on which the shopper bought it.
        last_on: the last of them, such as 2025-03-01.
    """

    score: float
    times: int
    last_on: str


@dataclass(frozen=True, slots=True)
class User:
    """What a release knows of a shopper.

    Attributes:
        vector: unit vector (d,); None where the history has no direction.
        words: weighted words by term, those that distinguish most first.
        history: item ids with weights such that the vector is the sum of weight x item vector.
        interests: clusters of the history, the most important first, where they were asked for.
        behaviour: items from which co-purchases start, with their weights.
        lasting: the same items with the weights from which EASE starts.
        shoppers: what similar shoppers took, with scores.
        repeats: items of the history that the shopper may buy again.
        fitted: unit vector of the release's fitted system (w,); None without one.
        seen: item ids that answers leave out.
        segment: from the users file.
        categories: favourite categories, best first.
    """

    user_id: str
    vector: Vector | None = None
    words: Mapping[str, Word] = field(default_factory=dict)
    history: Mapping[str, float] = field(default_factory=dict)
    interests: tuple[Interest, ...] = ()
    behaviour: Mapping[str, float] = field(default_factory=dict)
    lasting: Mapping[str, float] = field(default_factory=dict)
    shoppers: Mapping[str, float] = field(default_factory=dict)
    repeats: Mapping[str, Repeat] = field(default_factory=dict)
    fitted: Vector | None = None
    seen: Sequence[str] = ()
    segment: str | None = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """What a release knows of an item.

    Attributes:
        vector: (d,).
        words: weighted words by term, those that distinguish most first.
        neighbours: similarities of co-purchases by item id.
        ease: weights in the EASE scores of other items, by item id.
        fitted: unit vector of the release's fitted system (w,); None without one.
        photo: unit vector of its photo (p,), where it was asked for; None without one.
    """

    item_id: str
    title: str
    category: str | None
    price: float | None
    vector: Vector
    words: Mapping[str, Word] = field(default_factory=dict)
    neighbours: Mapping[str, float] = field(default_factory=dict)
    ease: Mapping[str, float] = field(default_factory=dict)
    fitted: Vector | None = None
    photo: Vector | None = None


class Neighbours(ABC):
    """The items from which co-purchases and EASE start, and the values of these items for others."""

    @abstractmethod
    def sum(self, kind: ItemToItem, weights: Mapping[str, float], without: Collection[str] = ()) -> dict[str, float]:
        """Return the `MAX_ITEMS` items with the largest sums over a shopper's items: of co-purchases, or of EASE.

        score(j) = sum over i of weight(i) x value(i, j), rounded to 6 decimals, above 0; equal scores by item id.

        Args:
            kind: which values.
            weights: of the shopper's items, by id; an item that the release does not have adds nothing.
            without: item ids to exclude.
        """

    @abstractmethod
    def items(self, others: Collection[str]) -> Mapping[str, Item]:
        """Return the items by id, with their values for other items, at least for those that are named."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a release knows about the subject of a query; a plan is made of nothing else.

    Attributes:
        user: None without a user, and for a user that the release does not know.
        session: a profile made of the session's items, None without a session.
        neighbours: of the items from which co-purchases and EASE start, None where the plan uses neither.
        co_purchases: scores of the items that the same shoppers took as those of the `profile` and the `session`.
        ease: scores of EASE for the items of the `profile` and the `session`.
        popular: the popular items of a segment or category, by its name, where the fallback chain needs them.
        text_vector: the encoded text, where the query has a text and its mode uses vectors.
        photo_vector: the encoded photo, where the query has one.
        photo_title: title of the item whose photo it is; None for the photo of a caller.
        analyzer: that made the words of the release.
        failed: what a server did not answer in time, in words.
    """

    user: User | None = None
    session: User | None = None
    neighbours: Neighbours | None = None
    co_purchases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ease: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    popular: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    text_vector: Vector | None = None
    photo_vector: Vector | None = None
    photo_title: str | None = None
    analyzer: Analyzer = ENGLISH
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an index: retrievers, and which documents they may return.

    Attributes:
        conditions: hold inside every retriever.
        user: the shopper whose `seen` items are excluded, None to exclude nobody's; a server may look them up.
        without: further item ids to exclude.
        depth: the most candidates of each retriever.
    """

    retrievers: Sequence[Retriever]
    conditions: tuple[Filter, ...]
    user: User | None
    without: Sequence[str]
    depth: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query is answered: the request to the index, and what follows it.

    Attributes:
        query: the query.
        tier: of the fallback chain.
        request: at least one retriever.
        weights: of each retriever in the fusion; a retriever of weight 0 only finds pinned items.
        fusion: reciprocal rank (rrf), weighted mean of min-max (minmax) or standard scores (zscore), or a blend.
        rank_weights: of each retriever's ranks in a blend, else empty.
        own_weights: the ranking weighs none of the retrievers, or the list of a segment or a category answers, so that
            they have their own weights.
        diversity: share of maximal marginal relevance, 0 (off) to 1.
        min_score: hits with a lower score are left out, pinned ones excepted; None keeps all, as do the tiers segment,
            category and popularity.
        rules: business rules.
        uses_profile: the shopper's profile answers, alone or with a session, a text or a photo.
        profile_skipped: the shopper's profile could have answered, but the fallback chain puts another tier first.
    """

    query: Query
    tier: Tier
    request: Request
    weights: Sequence[float]
    fusion: Fusion
    diversity: float
    min_score: float | None = None
    rules: Sequence[Rule] = ()
    uses_profile: bool = False
    profile_skipped: bool = False
    rank_weights: Sequence[float] = ()
    own_weights: bool = False

    @property
    def retrievers(self) -> Sequence[Retriever]:
        """The retrievers of the request."""
        return self.request.retrievers


@dataclass(frozen=True, slots=True)
class Ranked:
    """The hits, best first.

    Attributes:
        documents: int64 (b,), document numbers.
        scores: float64 (b,), after boosts; 0 for a pinned item that no retriever found.
        contributions: float64 (b, retrievers), what each retriever added before boosts.
        records: what the hits show.
        notes: for each hit, what rules, diversity and category caps did to it, in words.
        counts: by field of the query's `count`, how many candidates have each value.
        dropped_by: the business rules that dropped candidates.
        standings: of each hit; empty where no rule and no `collapse` had a say.
    """

    documents: Ints
    scores: Floats
    contributions: Floats
    records: Sequence[Record]
    notes: Sequence[tuple[str, ...]]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    dropped_by: Sequence[Rule] = ()
    standings: Sequence[Standing] = ()
