"""One event in the shape of User Behavior Insights 1.3 (o19s/ubi): who did what with which item, and where."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vlm4rec_search.common.text_forms import MARKERS, WORDS, normal_form

LATEST = timedelta(days=1)  # after the receipt: a plan refuses later times as well
LONGEST = 10_000  # characters of an event as JSON
Meaning = Literal["for", "against", "seen", "shown"]
# Kinds of events and the words for them: those of `macros/events.py`, and click_through of UBI.
_WORDS = {
    "impression": "impressions view_item_list shown",
    "click": "clicked select_item click_through",
    "view": "viewed view_item page_view pageview product_view product_viewed item_view detail detail_view",
    "cart": "add_to_cart addtocart added_to_cart add_to_basket add_to_bag product_added_to_cart basket",
    "purchase": "purchased buy bought transaction checkout checkout_completed order_completed sale conversion",
    "order": "ordered orders",
    "remove": "remove_from_cart removed_from_cart product_removed_from_cart",
    "hide": "hidden not_interested",
    "dislike": "disliked dislikes thumbs_down thumb_down downvote",
    "return": "returned returns refund refunded refunds sent_back cancellation",
    "wishlist": "add_to_wishlist wish_list favorite favourite favorites favourites saved save bookmark",
    "like": "liked likes thumbs_up thumb_up upvote",
    "rating": "rate rated ratings star_rating user_rating",
    "review": "reviews reviewed",
    "share": "shared",
}
_KINDS = {word: kind for kind, words in _WORDS.items() for word in (kind, *words.split())}
_MEANINGS: dict[str, Meaning] = {
    "impression": "shown", "remove": "seen", "rating": "seen", "review": "seen",
    "hide": "against", "dislike": "against", "return": "against",
}  # fmt: skip

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]


def _is_text(moment: object) -> object:
    """Refuse numbers: their unit could only be guessed."""
    if not isinstance(moment, str) or re.fullmatch(r"\s*[-+]?[\d.]+\s*", moment):
        raise ValueError("write the time as ISO 8601, such as 2026-01-31T12:00:00Z")
    return moment


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Object(_Part):
    object_id: Annotated[str, StringConstraints(min_length=1, max_length=512)] | StrictInt


class _Position(_Part):
    ordinal: int | None = Field(default=None, ge=0, le=1_000_000)


class _Attributes(_Part):
    object: _Object | None = None
    position: _Position | None = None
    value: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Event(_Part):
    """An event; keys that it does not name are kept.

    Attributes:
        action_name: such as impression, click, add_to_cart, purchase or hide.
        timestamp: when it took place; without a zone in UTC.
        event_id: of the sender, so that an event that is sent twice counts once; None takes a hash of the event.
        user_id: the shopper; without it `client_id` is.
        client_id: the browser or device.
        session_id: of the visit.
        query_id: the recommendation from which it came.
        event_attributes: `object.object_id` is the item, `position.ordinal` its place, `value` a strength such as a
            number of pieces.
    """

    action_name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    timestamp: Annotated[datetime, BeforeValidator(_is_text)]
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    user_id: Text | None = None
    client_id: Text | None = None
    session_id: Text | None = None
    query_id: Text | None = None
    event_attributes: _Attributes | None = None

    @field_validator("user_id", "client_id")
    @classmethod
    def _is_nobody(cls, name: str | None, info: ValidationInfo[Collection[str]]) -> str | None:
        """Take a word for nothing as absent, as staging does; else all its senders were one shopper."""
        return None if name is not None and normal_form(name) in info.context else name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.shopper:
            raise ValueError("give a user_id, or a client_id")
        if self.item_id == "":
            raise ValueError("the object_id is empty")
        try:
            late = self.happened_at > datetime.now(UTC) + LATEST
        except OverflowError:
            raise ValueError("the timestamp is outside of the calendar") from None
        if late:
            raise ValueError("the timestamp is in the future")
        return self

    @property
    def happened_at(self) -> datetime:
        """When it took place, in UTC."""
        return self.timestamp.replace(tzinfo=self.timestamp.tzinfo or UTC).astimezone(UTC)

    @property
    def shopper(self) -> str:
        """The shopper's id as tables have it."""
        return normal_form(self.user_id or "") or normal_form(self.client_id or "")

    @property
    def item_id(self) -> str | None:
        """The item's id as tables have it; None for an event without an item."""
        item = self.event_attributes.object if self.event_attributes else None
        return None if item is None else normal_form(str(item.object_id))


class WrongEventError(ValueError):
    """An event cannot be kept; the message says why."""


def parse_event(content: Any, nothing: Collection[str] = (*MARKERS, *WORDS)) -> tuple[Event, str]:
    """Return an event and its whole content as JSON.

    Args:
        content: an object.
        nothing: words for nothing in an id of a shopper or browser, see `Values.words_for_nothing`.

    Raises:
        WrongEventError: it is not as described.
    """
    if not isinstance(content, Mapping):
        raise WrongEventError("an event is an object")
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True)
        text.encode()  # refuses half of a pair of escapes
        event = Event.model_validate(content, context=nothing)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise WrongEventError(f"{where}: {message}" if where else message) from None
    except (ValueError, RecursionError) as error:
        raise WrongEventError(f"it cannot be written as JSON ({error})") from None
    if len(text) > LONGEST:
        raise WrongEventError(f"it has {len(text):,} characters: send at most {LONGEST:,}")
    if event.event_id is None:
        event = event.model_copy(update={"event_id": hashlib.sha256(text.encode()).hexdigest()[:32]})
    return event, text


def one_word(event: str) -> str:
    """Return an event type as the macro `@event_name` spells it: add_to_cart for "Add to Cart" and `addToCart`."""
    return re.sub(r"[\W_]+", "_", re.sub("([a-z])([A-Z])", r"\1_\2", event).lower()).strip("_")


def kind_of(action_name: str, declared: Mapping[str, str] = {}) -> str:
    """Return the kind of an action, such as cart for add_to_cart; of an unknown one its name, as a plan spells it.

    Args:
        action_name: in any spelling.
        declared: kinds of the shop's own words, see `Values.events`; they come first.
    """
    word = one_word(action_name)
    return declared.get(word, _KINDS.get(word, word))


def meaning(action_name: str, declared: Mapping[str, str] = {}) -> Meaning:
    """Return what an action says of its item: for it, against it, only that it was seen, or only that it was shown.

    The arguments are those of `kind_of`.
    """
    return _MEANINGS.get(kind_of(action_name, declared), "for")
