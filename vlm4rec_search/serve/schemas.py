"""The bodies of requests and answers of the JSON API."""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from vlm4rec_search.search.query import (
    LARGEST_PHOTO,
    LARGEST_SESSION,
    Answer,
    Explanation,
    Hit,
    Mode,
    QueryFusion,
    Tier,
)

LARGEST_PAGE = 100
LONGEST_TEXT = 1_000
LARGEST_BATCH = 1_000  # events of one request
_EVENT_EXAMPLE = {
    "event_id": "3f0c6a52-8c1e-4e0e-9a43-5f8d1f0a7b11",
    "action_name": "click",
    "timestamp": "2026-01-31T12:00:00Z",
    "user_id": "u001",
    "query_id": "0123456789abcdef0123456789abcdef",
    "event_attributes": {"object": {"object_id": "00004"}, "position": {"ordinal": 3}},
}
Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def _photo_bytes(value: object) -> bytes:
    """Return the bytes of a photo in base64, also as the data URL that browsers make of a file."""
    if not isinstance(value, str) or not value:
        raise ValueError("the photo is a text in base64")
    text = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the photo is not in base64") from None


PhotoBytes = Annotated[
    bytes,
    BeforeValidator(_photo_bytes),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "minLength": 1}),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Options(_Body):
    """What the three kinds of search have in common; what is absent comes from the scenario, else from the ranking."""

    k: int | None = Field(default=None, ge=1, le=LARGEST_PAGE, description="number of items, by default 10")
    mode: Mode | None = Field(default=None, description="the retrievers that answer, by default hybrid: all of them")
    filters: list[Name] | None = Field(
        default=None, max_length=50, description="conditions such as category=bags, price=10..50 or price>=10"
    )
    exclude: list[Id] | None = Field(default=None, max_length=1_000, description="items that are no answer")
    collapse: Name | None = Field(default=None, description="of items with one value of this field only the best")
    count: list[Name] | None = Field(
        default=None, max_length=20, description="fields whose values are counted over the candidates"
    )
    weights: dict[str, float] | None = Field(
        default=None, description="weight of each kind of retriever, 0 (off) to 1,000,000"
    )
    fusion: QueryFusion | None = Field(default=None, description="rrf, minmax or zscore")
    diversity: float | None = Field(default=None, ge=0, le=1, description="share of maximal marginal relevance")
    per_category: int | None = Field(default=None, ge=1, le=LARGEST_PAGE, description="the most items of a category")
    min_score: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="items with a lower score are left out, except by the tiers segment, category and popularity",
    )
    scenario: Name | None = Field(default=None, description="a preset of these options")
    release: Name | None = Field(default=None, description="a release other than the live one")
    ranking: Name | None = Field(default=None, description="a ranking that the service knows by this name")
    explain: bool = Field(default=False, description="give the reasons for each item")


class RecommendRequest(Options):
    """Items for a shopper, for a session, or for both."""

    user: Id | None = Field(default=None, description="the shopper; an unknown one gets the fallback chain")
    items: list[Id] = Field(default=[], max_length=LARGEST_SESSION, description="items of the session")
    include_seen: bool | None = Field(default=None, description="also items that the shopper has taken")
    buy_again: bool | None = Field(default=None, description="also items that the shopper may buy again")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.user is None and not self.items:
            raise ValueError("give a user, items of a session, or both")
        return self


class SearchRequest(Options):
    """Items for a text or a photo, and perhaps for the shopper who asks."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)] | None = None
    photo: PhotoBytes | None = Field(
        default=None,
        description=f"a photo file of at most {LARGEST_PHOTO // 2**20} MiB in base64, which items are to look like; the"
        " answer has one page. It needs a release with vectors of photos, and the mode hybrid",
    )
    photo_of: Id | None = Field(default=None, description="an item whose photo is meant, in place of `photo`")
    user: Id | None = None
    items: list[Id] = Field(default=[], max_length=LARGEST_SESSION, description="items of the session")
    include_seen: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.text is None and self.photo is None and self.photo_of is None:
            raise ValueError("give a text, a photo or photo_of")
        return self


class SimilarRequest(Options):
    """Items that are like an item, or chosen by the same shoppers."""

    item: Id


class EventBatch(_Body):
    """Events in the shape of User Behavior Insights 1.3. A wrong one does not cost the others."""

    events: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=LARGEST_BATCH,
        description="each with action_name, timestamp, user_id or client_id, and where there is one event_id, query_id"
        " (the recommendation_id), event_attributes.object.object_id (the item) and event_attributes.position.ordinal",
        examples=[[_EVENT_EXAMPLE]],
    )


class RejectedEvent(BaseModel):
    """An event of the request that is not kept."""

    index: int = Field(description="its place in the request, from 0")
    detail: str = Field(description="what is wrong")


class EventReceipt(BaseModel):
    """What became of the events; those that are accepted are on the disk."""

    accepted: int
    duplicates: int = Field(description="events whose event_id was known, which are not kept again")
    rejected: list[RejectedEvent]


class ReasonText(BaseModel):
    """A reason for an item, and its share of the score."""

    text: str
    share: float

    @classmethod
    def of(cls, explanation: Explanation) -> list[Self]:
        """Return the reasons of an explanation, largest share first."""
        return [cls(text=reason.clause, share=round(reason.share, 4)) for reason in explanation.reasons]


class Item(BaseModel):
    """One item of an answer. Scores can be compared within one answer only."""

    item_id: str
    rank: int
    score: float
    title: str
    category: str | None
    price: float | None
    reasons: list[ReasonText] = Field(default=[], description="where the request asks to explain")
    sentence: str | None = Field(default=None, description="the reasons in one sentence")
    rule: str | None = Field(default=None, description="what business rules, diversity and caps did to the item")

    @classmethod
    def of(cls, hit: Hit) -> Self:
        """Return a hit as an item of an answer."""
        explanation = hit.explanation
        return cls(
            item_id=hit.item_id,
            rank=hit.rank,
            score=round(hit.score, 6),
            title=hit.title,
            category=hit.category,
            price=hit.price,
            reasons=ReasonText.of(explanation) if explanation else [],
            sentence=explanation.sentence if explanation else None,
            rule="; ".join(explanation.rules) or None if explanation else None,
        )


class Assignment(BaseModel):
    """The live comparison in which an answer takes part."""

    name: str
    arm: Literal["a", "b"] | None = Field(description="the variant that answers; null where both are mixed")
    teams: str | None = Field(
        description="where both are mixed, which variant chose each item, such as abba; items behind these count for"
        " neither, since one variant had no others left"
    )


class Recommendation(BaseModel):
    """The items of one answer, best first, and where they come from."""

    recommendation_id: str
    items: list[Item]
    tier: Tier = Field(description="what answered: the profile, the session, the text, the photo, or a fallback")
    release: str
    ranking: str
    scenario: str | None
    experiment: Assignment | None = None
    missing: list[str] = Field(description="items of the request that the release does not have")
    note: str | None = Field(description="a sentence where the answer is not what the caller may expect")
    degraded: str | None = Field(
        description="a sentence where the answer is less than it could be, since the index did not answer in time or"
        " refused access, or the log of events could not be read"
    )
    counts: dict[str, dict[str, int]] = Field(description="values of the counted fields over the candidates")
    next: str | None = Field(description="address of the next page; null where there is none")
    took_ms: float

    @classmethod
    def of(
        cls,
        answer: Answer,
        recommendation_id: str,
        scenario: str | None,
        next_page: str | None,
        experiment: Assignment | None = None,
    ) -> Self:
        """Return an answer of the index with the id under which it was served."""
        return cls(
            recommendation_id=recommendation_id,
            items=[Item.of(hit) for hit in answer.hits],
            tier=answer.tier,
            release=answer.release,
            ranking=answer.ranking,
            scenario=scenario,
            experiment=experiment,
            missing=list(answer.missing),
            note=answer.note,
            degraded=answer.degraded,
            counts={field: dict(values) for field, values in answer.counts.items()},
            next=next_page,
            took_ms=answer.took_ms,
        )


class HistoryItem(BaseModel):
    """An item of a shopper's history with its weight in the profile; a negative one speaks against its like."""

    item_id: str
    title: str | None
    weight: float


class UserPage(BaseModel):
    """What the live release knows of a shopper."""

    user_id: str
    release: str
    has_profile: bool
    segment: str | None
    categories: list[str] = Field(description="favourite categories, best first")
    words: list[str] = Field(description="the words of the profile, those that distinguish the shopper most first")
    history: list[HistoryItem]
    seen: int = Field(description="number of items that answers leave out")


class ItemPage(BaseModel):
    """What the live release knows of an item."""

    item_id: str
    release: str
    title: str
    category: str | None
    price: float | None
    available: bool | None
    image: str | None
    description: str | None
    caption: str | None
    attributes: Mapping[str, Any]
    words: list[str]
    bought_with: dict[str, float] = Field(description="similarity of co-purchases by item id")


class ReleaseInfo(BaseModel):
    """A release of the index."""

    name: str
    live: bool
    created_at: datetime
    documents: int
    users: int
    encoder: str
    image_encoder: str | None = Field(description="what made its vectors of photos; null where it has none")
    captioner: str
    ranking: str | None = Field(description="the ranking that it holds, and why it was chosen")
    checks: str


class Health(BaseModel):
    """Whether the service can answer."""

    status: str
    release: str
    problem: str | None = Field(
        default=None, description="why the live release cannot be followed, or an experiment is left out"
    )


class Problem(BaseModel):
    """An error as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="what is wrong, and what to do")
    errors: list[dict[str, Any]] = Field(default=[], description="fields of the request that are wrong")
