"""Functions of the staging models for kinds of events: their names, ratings, and returns."""

from sqlmesh.core.macros import SQL, MacroEvaluator, macro

# Other words for the event types of profiles.event_weights; GA4, Shopify, RetailRocket and REES46 use some of them.
SYNONYMS = {
    "purchase": "purchased buy bought transaction checkout checkout_completed order_completed sale conversion",
    "order": "ordered orders",
    "cart": "add_to_cart addtocart added_to_cart add_to_basket add_to_bag product_added_to_cart basket",
    "remove": "remove_from_cart removed_from_cart product_removed_from_cart",
    "wishlist": "add_to_wishlist wish_list favorite favourite favorites favourites saved save bookmark",
    "view": "view_item viewed page_view pageview product_view product_viewed item_view detail detail_view",
    "click": "clicked select_item",
    "impression": "impressions view_item_list shown",
    "like": "liked likes thumbs_up thumb_up upvote",
    "dislike": "disliked dislikes thumbs_down thumb_down downvote",
    "return": "returned returns refund refunded refunds sent_back cancellation",
    "rating": "rate rated ratings star_rating user_rating",
    "review": "reviews reviewed",
    "hide": "hidden not_interested",
    "share": "shared",
}
NAMES = {word: name for name, words in SYNONYMS.items() for word in (name, *words.split())}
PURCHASES = "('purchase', 'order', 'interaction')"
_DISLIKED, _LIKED = 0.4, 0.7  # shares of the best rating: two stars of five or fewer, and more than three of five


@macro()
def event_name(evaluator: MacroEvaluator, text: SQL, declared: str) -> str:
    """Return the name of a kind of event as in profiles.event_weights: `cart` for "Add to Cart" and `addToCart`.

    A name that has no other word stays, in lower case and with _ between its words. What the shop declares under
    `events` comes first.
    """
    import json

    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, text)
    (text,) = value.arguments
    spread = f"LOWER(REGEXP_REPLACE({text}, '([a-z])([A-Z])', '\\1_\\2', 'g'))"
    word = f"TRIM(REGEXP_REPLACE({spread}, '[^\\p{{L}}\\p{{N}}]+', '_', 'g'), '_')"
    names = {**NAMES, **json.loads(declared).get("events", {})}
    usual = ", ".join(f"'{name}'" for name in SYNONYMS if names[name] == name)
    spellings: dict[str, list[str]] = {}
    for other, name in names.items():
        if other != name:
            spellings.setdefault(name, []).append(f"'{other}'")
    # Lists of words, because a map of them is built again for each row.
    branches = " ".join(f"WHEN word IN ({', '.join(words)}) THEN '{name}'" for name, words in spellings.items())
    name = f"LIST_TRANSFORM([{word}], word -> CASE {branches} ELSE word END)[1]"
    return value.sql("TEXT", f"CASE WHEN {text} IS NULL OR {text} IN ({usual}) THEN {text} ELSE {name} END")


@macro()
def is_rating(evaluator: MacroEvaluator, event_type: SQL, declared: str) -> str:
    """Return whether the value of an event is a rating: of the event type `rating`, or of those that are declared."""
    import json

    from vlm4rec_search.common.sql import quote_text

    own = json.loads(declared)
    names = {**NAMES, **own.get("events", {})}
    kinds = [names.get(kind, kind) for kind in own.get("rating_events", ["rating"])]
    return f"{event_type} IN ({', '.join(map(quote_text, kinds))})"


@macro()
def judged_event(evaluator: MacroEvaluator, event_type: SQL, is_rating: SQL, number: SQL, scale: SQL) -> str:
    """Return the kind of event that the value makes of it.

    A rating of at most two stars of five is a `dislike`, of three stars `neutral`, and so is one without a number or
    without a scale. A purchase of a negative number is a `return`.
    """
    return f"""CASE
      WHEN {is_rating} AND ({number} IS NULL OR {scale} IS NULL) THEN 'neutral'
      WHEN {is_rating} AND {number} <= {_DISLIKED} * {scale} THEN 'dislike'
      WHEN {is_rating} AND {number} < {_LIKED} * {scale} THEN 'neutral'
      WHEN NOT {is_rating} AND {number} < 0 AND {event_type} IN {PURCHASES} THEN 'return'
      ELSE {event_type}
    END"""


@macro()
def judged_value(evaluator: MacroEvaluator, event_type: SQL, is_rating: SQL, number: SQL, scale: SQL) -> str:
    """Return the strength of an event, 1 if the log has none: the stars of five of a rating that likes an item."""
    return f"""CASE
      WHEN {is_rating} AND {number} >= {_LIKED} * {scale} THEN 5 * {number} / {scale}
      WHEN {is_rating} THEN 1
      WHEN {_has_quantity(event_type)} THEN ABS(COALESCE({number}, 1))
      ELSE COALESCE({number}, 1)
    END"""


@macro()
def is_event(evaluator: MacroEvaluator, file: SQL) -> str:
    """Return whether a file of the interactions holds events of the service, and is not the shop's own log."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, file)
    (file,) = value.arguments
    return value.sql(
        "BOOLEAN", f"COALESCE(REGEXP_FULL_MATCH({file}, 'events/interactions/\\d{{4}}-\\d\\d-\\d\\d\\.parquet'), FALSE)"
    )


@macro()
def is_purchase(evaluator: MacroEvaluator, event_type: SQL) -> str:
    """Return whether an event is a purchase, which a return can reverse."""
    return f"{event_type} IN {PURCHASES}"


@macro()
def has_quantity(evaluator: MacroEvaluator, event_type: SQL) -> str:
    """Return whether the value of an event counts pieces, which a minus sends back: of a purchase or a return."""
    return _has_quantity(event_type)


def _has_quantity(event_type: SQL) -> str:
    return f"({event_type} IN {PURCHASES} OR {event_type} = 'return')"


@macro()
def rating_scale(evaluator: MacroEvaluator, rating: SQL) -> str:
    """Return an aggregate: the best rating of the smallest usual scale (thumbs, 5, 10, 100) that has the ratings.

    Of twenty ratings or more one, and of many one in a hundred, may be above a scale of 5 or more: a slip of the pen.
    NULL without a rating, and where no scale has them.
    """
    slips = f"CASE WHEN COUNT({rating}) < 20 THEN 0 ELSE GREATEST(1, COUNT({rating}) // 100) END"

    def has_all(best: int) -> str:
        return f"COUNT(CASE WHEN {rating} > {best} THEN 1 END) <= {slips}"

    return f"""CASE
      WHEN COUNT({rating}) = 0 THEN NULL
      WHEN BOOL_AND({rating} IN (0, 1)) THEN 1
      WHEN {has_all(5)} THEN 5
      WHEN {has_all(10)} THEN 10
      WHEN {has_all(100)} THEN 100
    END"""


@macro()
def event_text(evaluator: MacroEvaluator, times: SQL, event_type: SQL, weight: SQL) -> str:
    """Return what the events of one kind weigh in words, such as "2 x view +0.35"."""
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, (times, "BIGINT"), event_type, (weight, "DOUBLE"))
    times, event_type, weight = value.arguments
    return value.sql("TEXT", f"PRINTF('%d x %s %+.2f', {times}, {event_type}, {weight})")


@macro()
def weight_text(evaluator: MacroEvaluator, events: SQL, days: SQL, dislikes: SQL) -> str:
    """Return the explanation of a weight in words.

    Args:
        evaluator: of SQLMesh.
        events: what the events weigh, in words.
        days: age of the last one.
        dislikes: the factor of dislikes; 1 for none.
    """
    from vlm4rec_search.common.spark.functions import Value

    value = Value(evaluator.gateway, evaluator.runtime_stage, events, (days, "DOUBLE"), (dislikes, "DOUBLE"))
    events, days, dislikes = value.arguments
    halved = f"PRINTF('; x %.2f, since dislikes count half of likes at most', {dislikes})"
    when = "%s; last %d days before the shopper''s latest%s"
    return value.sql(
        "TEXT", f"PRINTF('{when}', {events}, {days}::INT, CASE WHEN {dislikes} < 1 THEN {halved} ELSE '' END)"
    )
