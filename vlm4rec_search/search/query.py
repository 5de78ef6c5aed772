"""A query and its answer, the same for every backend."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import inf, isfinite
from numbers import Real
from typing import Literal, get_args

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.text_forms import composed, normal_form
from vlm4rec_search.search.filters import Filter, check_utf8, parse_filters

Mode = Literal["hybrid", "semantic", "lexical", "behaviour", "ease", "shoppers", "fitted"]
QueryFusion = Literal["rrf", "minmax", "zscore"]
Fusion = Literal[QueryFusion, "blend"]
"""Of a ranking configuration, which has the weights of a blend."""
Kind = Literal["semantic", "lexical", "behaviour", "ease", "shoppers", "fitted", "popularity", "photo"]
ItemToItem = Literal["behaviour", "ease"]  # kinds that start from the items of a shopper: co-purchases and EASE
Tier = Literal["profile", "session", "text", "photo", "segment", "category", "popularity"]
Origin = Literal["profile", "session"]  # of a retriever

KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "photo")
"""The kinds that a ranking weighs; photos take part where a query names one."""
LARGEST_WEIGHT = 1_000_000  # so that no sum of scores is infinite
LARGEST_K = 10_000
LARGEST_SESSION = 100
LARGEST_EXCLUSION = 1_000
LONGEST_TEXT = 10_000
LARGEST_PHOTO = 8 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Query:
    """A search for a shopper, a session, a text, a photo, or a combination of them.

    Attributes:
        user: the shopper's id. A shopper without a profile gets the next tier of the fallback chain: session, segment,
            category, popularity.
        items: item ids of the session, at most 100; answers leave them out.
        text: free text.
        mode: the retrievers that answer: vectors (semantic), words (lexical), co-purchases (behaviour), what histories
            predict (ease), what similar shoppers took (shoppers), learned vectors (fitted), or all of them and
            popularity (hybrid).
        filters: conditions that every hit fulfils, see `parse_filters`; they apply inside every retriever.
        k: number of hits, 1 to 10,000. A larger k adds hits at the end and leaves the first ones as they are as long as
            it is at most `depth`; beyond it more candidates are retrieved, so that the fusion may order them otherwise.
        include_seen: also return items that the shopper has interacted with.
        buy_again: also return items of the history that the shopper may buy again; None takes the ranking
            configuration's. It has no effect with a text or outside the mode hybrid.
        fusion: reciprocal rank (rrf), or weighted mean of min-max (minmax) or standard scores (zscore); None takes the
            ranking configuration's, and minmax with a text or a photo. Where that is a blend, another fusion takes the
            sum of a kind's two weights. The list of a segment or a category is always filled up by rrf.
        weights: weight of each kind of retriever (semantic, lexical, behaviour, ease, shoppers, fitted, popularity,
            photo), divided among the retrievers of the kind; 0 switches a kind off. Missing kinds have the weight of
            the ranking.
        depth: candidates of each retriever before fusion, at least k; None takes the ranking configuration's.
        diversity: share of maximal marginal relevance, 0 (off) to 1; None takes the ranking configuration's.
        per_category: the most hits of one category; pinned items count.
        exclude: item ids that are no hits, at most 1,000.
        recent: items that the shopper chose since the release was made, at most 100. They count like items of
            the session, and are left out like items of the history.
        hidden: items that the shopper turned down since then, at most 100. They are left out in the same way, and what
            resembles them loses.
        collapse: a field; of items with the same value of it only the best is a hit, such as one of all colours of a
            model. A pinned item is the best of its value.
        count: fields whose values are counted over the candidates, for facets beside the hits.
        min_score: leave out hits with a lower score, which depends on the fusion and on the weights; None takes the
            ranking configuration's. It has no effect where the tier segment, category or popularity answers.
        scenario: name of a scenario, which conditions of business rules may name.
        at: the moment of the search, which conditions of business rules compare; None is now.
        explain: explain every hit.
        similar: the question is what is like the items or the photo, and not what a shopper sees: rules pin nothing,
            unless they name the scenario.
        photo: bytes of a photo file, at most 8 MiB; items whose photos look like it are found, where the release has
            vectors of photos. It is read as the photos of the catalogue are. The mode has to be hybrid.
        photo_of: item id; as `photo`, with the photo of this item, which is no hit.

    Raises:
        UsageError: a value is outside its range; on construction.
    """

    user: str | None = None
    text: str | None = None
    items: Sequence[str] = ()
    mode: Mode = "hybrid"
    filters: Sequence[str | Filter] = ()
    k: int = 10
    include_seen: bool = False
    buy_again: bool | None = None
    fusion: QueryFusion | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    depth: int | None = None
    diversity: float | None = None
    per_category: int | None = None
    exclude: Sequence[str] = ()
    recent: Sequence[str] = ()
    hidden: Sequence[str] = ()
    collapse: str | None = None
    count: Sequence[str] = ()
    min_score: float | None = None
    scenario: str | None = None
    at: datetime | None = None
    explain: bool = False
    similar: bool = False
    photo: bytes | None = field(default=None, repr=False)
    photo_of: str | None = None

    def __post_init__(self) -> None:
        """Check every value, so that nothing behind it has to."""
        self._check_lists()
        for name, given in self._texts():
            _check_is_text(name, given)
        self._normalise()
        self._check_subject()
        if self.mode not in get_args(Mode):
            raise UsageError(f"mode is {self.mode!r}: use one of {', '.join(get_args(Mode))}")
        if self.fusion not in (None, *get_args(QueryFusion)):
            raise UsageError(f"fusion is {self.fusion!r}: use one of {', '.join(get_args(QueryFusion))}")
        numbers = {"k": self.k, "depth": self.depth, "per_category": self.per_category}
        for name, value in numbers.items():
            if (value is not None or name == "k") and not _is_count(value):
                raise UsageError(f"{name} is {value!r}: use a whole number from 1 to {LARGEST_K:,}")
        if self.diversity is not None and not (_is_finite(self.diversity) and 0.0 <= self.diversity <= 1.0):
            raise UsageError(f"diversity is {self.diversity!r}: use a number from 0 to 1")
        if self.at is not None and self.at.tzinfo is None:
            raise UsageError(f"at is {self.at}: give the moment with its time zone")
        if self.min_score is not None and not _is_finite(self.min_score):
            raise UsageError(f"min_score is {self.min_score!r}: use a finite number")
        if self.mode in ("behaviour", "ease", "shoppers", "fitted") and self.text is not None:
            raise UsageError("a text has no co-purchases or histories: give a user or items, or use another mode")
        self._check_weights()
        for condition in self.conditions:
            check_utf8("filter", "".join((condition.field, *condition.values)))

    def _check_lists(self) -> None:
        for name in ("items", "recent", "hidden"):
            if not _is_list(getattr(self, name), LARGEST_SESSION):
                raise UsageError(f"{name} is a list of at most {LARGEST_SESSION} item ids")
        if not _is_list(self.exclude, LARGEST_EXCLUSION):
            raise UsageError(f"exclude is a list of at most {LARGEST_EXCLUSION:,} item ids")
        if not _is_list(self.count):
            raise UsageError("count is a list of fields")

    def _texts(self) -> list[tuple[str, str]]:
        """Return the ids, the text and the fields that are given, each with the name of what it is."""
        single = (("user id", self.user), ("text", self.text), ("item id", self.photo_of), ("field", self.collapse))
        ids = (("item id", item) for item in (*self.items, *self.exclude, *self.recent, *self.hidden))
        fields = (("field", name) for name in self.count)
        return [*((name, value) for name, value in single if value is not None), *ids, *fields]

    def _check_subject(self) -> None:
        if self.user is None and not self.has_text_or_photo and not self.items:
            raise UsageError("a search needs a user, a text, items or a photo: give --user, --text, --items or --photo")
        for name, value in self._texts():
            check_utf8(name, value)
            if not value.strip():
                raise UsageError(f"the {name} is empty")
        if self.text is not None and len(self.text) > LONGEST_TEXT:
            raise UsageError(f"the text has {len(self.text):,} characters: use at most {LONGEST_TEXT:,}")
        if self.has_photo:
            self._check_photo()

    def _check_photo(self) -> None:
        if self.photo is not None and self.photo_of is not None:
            raise UsageError("give a photo or the item whose photo is meant, not both")
        if self.mode != "hybrid":
            raise UsageError(f"a search by photo has no mode {self.mode}: leave out the mode")
        if self.photo is not None and len(self.photo) > LARGEST_PHOTO:
            raise UsageError(f"the photo has more than {LARGEST_PHOTO // 2**20} MiB: use a smaller one")

    def _normalise(self) -> None:
        """Give ids and the text the form that the tables have, so that zoë is found however it was typed."""
        forms: dict[str, object] = {
            "user": self.user and normal_form(self.user),
            "text": self.text and composed(self.text),
            "photo_of": self.photo_of and normal_form(self.photo_of),
            "items": tuple(map(normal_form, self.items)),
            "exclude": tuple(map(normal_form, self.exclude)),
            "recent": tuple(map(normal_form, self.recent)),
            "hidden": tuple(map(normal_form, self.hidden)),
        }
        for name, form in forms.items():
            object.__setattr__(self, name, form)

    def _check_weights(self) -> None:
        kinds = get_args(Kind) if self.has_photo else KINDS
        for kind, weight in self.weights.items():
            check_utf8("kind of a weight", kind)
            if kind not in kinds or not (_is_finite(weight) and 0 <= weight <= LARGEST_WEIGHT):
                numbers = f"a number from 0 to {LARGEST_WEIGHT:,}"
                raise UsageError(f"weight {kind}={weight}: use {numbers} for one of {', '.join(kinds)}")
        if self.weights and not any(self.weights.get(kind, 1.0) > 0 for kind in kinds):
            raise UsageError("the weights are all 0: give at least one kind of retriever a weight above 0")

    @property
    def has_photo(self) -> bool:
        """Whether items that look like a photo are wanted."""
        return self.photo is not None or self.photo_of is not None

    @property
    def has_text_or_photo(self) -> bool:
        """Whether the query has a text or a photo to look for."""
        return self.text is not None or self.has_photo

    @property
    def conditions(self) -> tuple[Filter, ...]:
        """The filters, parsed."""
        return parse_filters(self.filters)


@dataclass(frozen=True, slots=True)
class RetrieverPart:
    """The part of one retriever in a hit.

    Attributes:
        name: profile, interest, session, text, words, photo, co-purchase, ease, shoppers, fitted, popularity or
            buy-again.
        kind: semantic, lexical, behaviour, ease, shoppers, fitted, popularity or photo.
        score: cosine, weighted BM25, co-purchase score, sum of EASE weights, score of similar shoppers, popularity,
            or count and recency of purchases (buy-again).
        rank: among the retriever's candidates, None when the hit is not one of them.
        contribution: what the retriever adds to the hit's score.
        share: contribution / sum of the contributions of all retrievers; 0 where that sum is 0.
        origin: whether it comes from the profile or the session; None where from neither.
    """

    name: str
    kind: str
    score: float
    rank: int | None
    contribution: float
    share: float
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """The share of one history item in a retriever's score; it is negative where the item speaks against the hit."""

    item_id: str
    title: str
    share: float


@dataclass(frozen=True, slots=True)
class WordPart:
    """The share of one matched word in the lexical score."""

    word: str
    share: float


@dataclass(frozen=True, slots=True)
class ReasonPart:
    """One reason of the sentence: what follows "because", and its share of the score."""

    clause: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a hit is in the answer.

    Its numbers add up:

    - `history` + `rest` = score of the profile, interest or session, whichever is nearest to the hit
    - `words` = lexical score
    - `bought_with` + `bought_rest` = score of co-purchases
    - `goes_with` + `goes_rest` = score of EASE
    - `learned` + `learned_rest` = score of the fitted system, of the profile or the session, whichever is larger
    - contributions of `legs` + `boosted` = score of the hit

    Attributes:
        sentence: the reasons in words, see `tell`. Of several interests it names the items of the one that added most.
        legs: the part of every retriever.
        history: the history items with the largest shares, best first, without what the shopper disliked or turned
            down. A shopper with several interests gets the items of the interest that is nearest to the hit.
        rest: the sum of the shares of all other history items.
        words: the matched words, best first.
        bought_with: the history items that the same shoppers chose, best first.
        bought_rest: the sum of the shares of all other such items.
        rules: what diversity, category caps and business rules did to the hit, in words.
        goes_with: the items of the shopper that speak most for the hit in `ease`, best first.
        goes_rest: the sum of the shares of all other such items.
        boosted: what boosts of business rules added to the score.
        reasons: those of the sentence, in their order; a pinned hit has none.
        learned: the history items that the hit resembles most by learned vectors, best first.
        learned_rest: the sum of the shares of all other history items with such a vector.
    """

    sentence: str
    legs: tuple[RetrieverPart, ...]
    history: tuple[HistoryPart, ...] = ()
    rest: float = 0.0
    words: tuple[WordPart, ...] = ()
    bought_with: tuple[HistoryPart, ...] = ()
    bought_rest: float = 0.0
    rules: tuple[str, ...] = ()
    goes_with: tuple[HistoryPart, ...] = ()
    goes_rest: float = 0.0
    boosted: float = 0.0
    reasons: tuple[ReasonPart, ...] = ()
    learned: tuple[HistoryPart, ...] = ()
    learned_rest: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides the place of a hit beside its score, for a list that is made of two answers; it is no part of JSON.

    Attributes:
        pinned: a business rule puts it first.
        buried: a business rule puts it last.
        value: of the field that the query collapses; None without one.
    """

    pinned: bool = False
    buried: bool = False
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One document of an answer; scores can be compared within one answer only."""

    rank: int
    item_id: str
    score: float
    title: str
    category: str | None = None
    price: float | None = None
    explanation: Explanation | None = None
    standing: Standing = field(default=Standing(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits, best first, and where they come from.

    Attributes:
        user: the shopper's id of the query.
        mode: of the query.
        tier: of the fallback chain: the shopper's profile, the session, the text or the photo alone, the shopper's
            segment, a category, or popularity.
        release: name of the index release that answered.
        took_ms: milliseconds for the whole search, with the encoding of the text or photo and, in a folder that many
            threads search at once, with waiting.
        hits: at most k of them.
        counts: by field of the query's `count`, how many candidates have each value, most frequent first. Candidates
            are what the retrievers found after filters and rules, not the whole catalogue.
        ranking: version of the ranking configuration.
        note: a sentence where the answer is not what the caller may expect, for example for an unknown user.
        missing: items of the session that the release does not have.
        degraded: a sentence where the server did not answer in time, or refused access, and the answer is therefore
            less than it could be: fewer retrievers, or what is popular.
        retriever_ms: how long the retrievers took, by name, where it was measured; see `Retrieved.seconds`. It is no
            part of the JSON.
    """

    user: str | None
    mode: Mode
    tier: Tier
    release: str
    took_ms: float
    hits: tuple[Hit, ...]
    ranking: str = ""
    note: str | None = None
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    degraded: str | None = None
    retriever_ms: Mapping[str, float] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, object]:
        """Return the answer as plain values, "explanation" of hits and "counts" only where the query asked for them."""
        answer = asdict(self)
        del answer["retriever_ms"]
        if not self.counts:
            del answer["counts"]
        answer["hits"] = [
            {key: value for key, value in hit.items() if key != "standing" and (key != "explanation" or value)}
            for hit in answer["hits"]
        ]
        return answer


def _check_is_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"the {name} is {value!r}: use a text")


def _is_list(value: object, most: float = inf) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes) and len(value) <= most


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_K
