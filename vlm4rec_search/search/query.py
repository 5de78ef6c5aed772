"""What is asked and what is answered, the same for every backend."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Literal, get_args

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.filters import Filter, parse_filters


@dataclass(frozen=True, slots=True)
class LegPart:
    """One leg's view of a hit.

    Attributes:
        name: profile, interest, session, text, words, co-purchase or popularity.
        kind: semantic, lexical, behaviour or popularity.
        score: cosine, weighted BM25, summed co-purchase, or interactions.
        rank: place among the leg's candidates, None when it is not one of them.
        contribution: what the leg adds to the hit's score.
    """

    name: str
    kind: str
    score: float
    rank: int | None
    contribution: float


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """A history item's part of a leg's score; it is negative where the item speaks against the hit."""

    item_id: str
    title: str
    share: float


@dataclass(frozen=True, slots=True)
class WordPart:
    """A matched word's part of the lexical leg's score."""

    word: str
    share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Reasons for one hit; shares of `history` and `rest` add up to the semantic leg's score, `words` to the words',
    `bought_with` and `bought_rest` to the co-purchase leg's.

    Attributes:
        sentence: the reasons for people.
        legs: every leg of the query.
        history: the items that contributed most, best first; of several interests, the one that is nearest to the hit.
        rest: the sum of the shares of all other history items, those that the release lacks included.
        words: the matched words, best first.
        bought_with: the items that are bought by the same shoppers, best first.
        bought_rest: the sum of the shares of all others.
        rules: what diversity and the rules of the business did to the hit.
    """

    sentence: str
    legs: tuple[LegPart, ...]
    history: tuple[HistoryPart, ...] = ()
    rest: float = 0.0
    words: tuple[WordPart, ...] = ()
    bought_with: tuple[HistoryPart, ...] = ()
    bought_rest: float = 0.0
    rules: tuple[str, ...] = ()


Mode = Literal["hybrid", "semantic", "lexical", "behaviour"]
Fusion = Literal["rrf", "minmax"]
Kind = Literal["semantic", "lexical", "behaviour", "popularity"]
Tier = Literal["profile", "session", "text", "segment", "category", "popularity"]

KINDS: tuple[Kind, ...] = get_args(Kind)
LARGEST_K = 10_000
LARGEST_SESSION = 100
LONGEST_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Query:
    """One request: for a shopper, for the items of a session, for a text, or for a text in the light of the others.

    Attributes:
        user: the shopper's id. One without a profile is answered by the next tier that has something to say: session,
            text, segment, category, popularity.
        items: ids of the items that a session is about, 100 at most; answers leave them out.
        text: free text.
        mode: which legs answer: vectors (semantic), words (lexical), co-purchases (behaviour) or all (hybrid).
        filters: conditions that every hit fulfils, see `parse_filters`; they apply inside every leg.
        k: number of hits, 1 to 10,000.
        include_seen: also return what the user has interacted with.
        fusion: reciprocal rank (rrf) or min-max weighted mean (minmax); None takes the ranking configuration's.
        weights: weight of kinds of legs (semantic, lexical, behaviour, popularity), divided among the legs of a kind;
            0 leaves a kind out. What is not given is the ranking configuration's.
        depth: candidates of each leg before fusion; k where that is more; None takes the ranking configuration's.
        diversity: share of maximal marginal relevance, 0 (off) to 1; None takes the ranking configuration's.
        per_category: at most so many hits of one category.
        explain: tell for every hit why it is there.

    Raises:
        UsageError: a value outside what is said above, on construction.
    """

    user: str | None = None
    text: str | None = None
    items: Sequence[str] = ()
    mode: Mode = "hybrid"
    filters: Sequence[str | Filter] = ()
    k: int = 10
    include_seen: bool = False
    fusion: Fusion | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    depth: int | None = None
    diversity: float | None = None
    per_category: int | None = None
    explain: bool = False

    def __post_init__(self) -> None:
        """Check every value, so that no backend has to."""
        self._check_subject()
        if self.mode not in get_args(Mode):
            raise UsageError(f"mode is {self.mode!r}: use one of {', '.join(get_args(Mode))}")
        if self.fusion is not None and self.fusion not in get_args(Fusion):
            raise UsageError(f"fusion is {self.fusion!r}: use one of {', '.join(get_args(Fusion))}")
        numbers = {"k": self.k, "depth": self.depth, "per_category": self.per_category}
        for name, value in numbers.items():
            if (value is not None or name == "k") and not _is_count(value):
                raise UsageError(f"{name} is {value!r}: it has to be a whole number from 1 to {LARGEST_K:,}")
        if self.diversity is not None and not 0.0 <= self.diversity <= 1.0:
            raise UsageError(f"diversity is {self.diversity}: it has to be a number from 0 to 1")
        if self.mode == "behaviour" and self.text is not None:
            raise UsageError("a text has no co-purchases: give a user or items, or another mode")
        self._check_weights()
        parse_filters(self.filters)

    def _check_subject(self) -> None:
        if self.user is None and self.text is None and not self.items:
            raise UsageError("a search needs a user, a text or items: give --user, --text or --items")
        if isinstance(self.items, str) or len(self.items) > LARGEST_SESSION:
            raise UsageError(f"items is a list of at most {LARGEST_SESSION} item ids")
        texts = [("user id", self.user), ("text", self.text), *(("item id", item) for item in self.items)]
        for name, value in texts:
            if value is not None and value.encode("utf-8", "replace").decode() != value:
                raise UsageError(f"the {name} is not UTF-8 text")
            if value is not None and not value.strip():
                raise UsageError(f"the {name} is empty")
        if self.text is not None and len(self.text) > LONGEST_TEXT:
            raise UsageError(f"the text has {len(self.text):,} characters: at most {LONGEST_TEXT:,} are searched for")

    def _check_weights(self) -> None:
        for kind, weight in self.weights.items():
            if kind not in KINDS or not isfinite(weight) or weight < 0:
                raise UsageError(f"weight {kind}={weight}: weights are numbers of 0 or more for {', '.join(KINDS)}")
        if self.weights and not any(self.weights.get(kind, 1.0) > 0 for kind in KINDS):
            raise UsageError("the weights are all 0: at least one kind of leg has to count")

    @property
    def conditions(self) -> tuple[Filter, ...]:
        """The filters, parsed."""
        return parse_filters(self.filters)


@dataclass(frozen=True, slots=True)
class Hit:
    """One document of an answer; the score is comparable only within the answer."""

    rank: int
    item_id: str
    score: float
    title: str
    category: str | None = None
    price: float | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits, best first, and how they came about.

    Attributes:
        tier: what was known: the user's profile, the session's items, the text alone, the user's segment, a category,
            or nothing but popularity.
        release: name of the index release that answered.
        took_ms: milliseconds in the index, encoding of the text included.
        ranking: version of the ranking configuration.
        note: one sentence when the answer is not what was asked for, such as an unknown user.
    """

    user: str | None
    mode: Mode
    tier: Tier
    release: str
    took_ms: float
    hits: tuple[Hit, ...]
    ranking: str = ""
    note: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the answer as plain values; hits have an "explanation" only where one was asked for."""
        answer = asdict(self)
        answer["hits"] = [_drop_explanation(hit) for hit in answer["hits"]]
        return answer


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_K


def _drop_explanation(hit: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in hit.items() if name != "explanation" or value is not None}
