"""What is asked and what is answered, the same for every backend."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Literal, get_args

from vlm4rec_search.errors import UsageError
from vlm4rec_search.queries.explanation import Explanation
from vlm4rec_search.queries.filters import Filter, parse_filters

Mode = Literal["hybrid", "semantic", "lexical"]
Fusion = Literal["rrf", "minmax"]
Kind = Literal["semantic", "lexical", "popularity"]
Tier = Literal["profile", "text", "popularity"]

DEPTH = 200  # candidates of each leg; against 1,000 the fused top 10 then agree to 0.98 (rrf)
LARGEST_K = 10_000
LONGEST_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Query:
    """One request: for a shopper, for a text, or for a text in the light of a shopper.

    Attributes:
        user: the shopper's id. One who is not known is answered from the text, or else from popularity.
        text: free text.
        mode: which legs answer: vectors (semantic), words (lexical) or both.
        filters: conditions that every hit fulfils, see `parse_filters`; they apply inside every leg.
        k: number of hits, 1 to 10,000.
        include_seen: also return what the user has interacted with.
        fusion: reciprocal rank (rrf) or min-max weighted mean (minmax).
        weights: weight of each kind of leg ("semantic", "lexical"), divided evenly among its legs; by default every
            leg counts the same under rrf, every kind under minmax.
        depth: candidates of each leg before fusion; k where that is more.
        explain: tell for every hit why it is there.

    Raises:
        UsageError: a value outside what is said above, on construction.
    """

    user: str | None = None
    text: str | None = None
    mode: Mode = "hybrid"
    filters: Sequence[str | Filter] = ()
    k: int = 10
    include_seen: bool = False
    fusion: Fusion = "rrf"
    weights: Mapping[str, float] = field(default_factory=dict)
    depth: int = DEPTH
    explain: bool = False

    def __post_init__(self) -> None:
        """Check every value, so that no backend has to."""
        self._check_subject()
        if self.mode not in get_args(Mode):
            raise UsageError(f"mode is {self.mode!r}: use one of {', '.join(get_args(Mode))}")
        if self.fusion not in get_args(Fusion):
            raise UsageError(f"fusion is {self.fusion!r}: use one of {', '.join(get_args(Fusion))}")
        for name, value in (("k", self.k), ("depth", self.depth)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_K:
                raise UsageError(f"{name} is {value!r}: it has to be a whole number from 1 to {LARGEST_K:,}")
        self._check_weights()
        parse_filters(self.filters)

    def _check_subject(self) -> None:
        if self.user is None and self.text is None:
            raise UsageError("a search needs a user or a text: give --user, --text or both")
        for name, value in (("user id", self.user), ("text", self.text)):
            if value is not None and value.encode("utf-8", "replace").decode() != value:
                raise UsageError(f"the {name} is not UTF-8 text")
        if self.user is not None and not self.user.strip():
            raise UsageError("the user id is empty")
        if self.text is not None and not self.text.strip():
            raise UsageError("the text is empty")
        if self.text is not None and len(self.text) > LONGEST_TEXT:
            raise UsageError(f"the text has {len(self.text):,} characters: at most {LONGEST_TEXT:,} are searched for")

    def _check_weights(self) -> None:
        kinds = ("semantic", "lexical")
        for kind, weight in self.weights.items():
            if kind not in kinds or not isfinite(weight) or weight < 0:
                raise UsageError(f"weight {kind}={weight}: weights are numbers of 0 or more for semantic and lexical")
        if self.weights and not any(self.weights.get(kind, 1.0) > 0 for kind in kinds):
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
        tier: what was known: the user's profile, the text alone, or nothing but popularity.
        release: name of the index release that answered.
        took_ms: milliseconds in the index, encoding of the text included.
        note: one sentence when the answer is not what was asked for, such as an unknown user.
    """

    user: str | None
    mode: Mode
    tier: Tier
    release: str
    took_ms: float
    hits: tuple[Hit, ...]
    note: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the answer as plain values; hits have an "explanation" only where one was asked for."""
        answer = asdict(self)
        answer["hits"] = [_drop_explanation(hit) for hit in answer["hits"]]
        return answer


def _drop_explanation(hit: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in hit.items() if name != "explanation" or value is not None}
