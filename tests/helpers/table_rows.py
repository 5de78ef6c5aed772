"""Two good rows of each table, for the tests of the audits."""

from datetime import date, datetime
from typing import Any

Row = dict[str, Any]

NOON, LATER = datetime(2025, 3, 1, 12), datetime(2025, 3, 2, 12)
LOG = {"user_id": "u", "item_id": "a", "event_type": "view", "value": 1.0}
VECTOR = {"encoder": "tiny@1", "vector": [0.6, 0.8]}
CAPTIONED = {"captioner": "attributes@1", "active": True, "attributes": "{}"}
EVENT = {"weight": 1.0, "value_cap": 1.0, "repeat_cap": 1.0}
INTEREST = {"importance": 0.5, "medoid": "a", "items": ["a"], "vector": [0.6, 0.8]}
PACE: Row = {
    **dict.fromkeys(
        ("pace_days", "half_life_days", "behaviour_half_life_days", "lasting_half_life_days", "co_purchase_days"), 20.0
    ),
    **dict.fromkeys(("popularity_days", "shoppers_half_life_days", "regularisation"), 30.0),
}
LISTS: Row = {
    name: [] for name in ("history", "seen", "terms", "interests", "behaviour", "shoppers", "repeats", "categories")
}
ITEM = {"title": "Oak chair", "available": True, "price": 3.0}
FLOATS = {"item_floats": False, "user_floats": False}

# Two good rows of each table, which differ in their keys.
GOOD: dict[str, tuple[Row, Row]] = {
    "raw.items": (
        {"file": "items.csv", "row_number": 1, "line": 2, "attributes": "{}"},
        {"file": "items.csv", "row_number": 2, "line": 3, "attributes": "{}"},
    ),
    "raw.interactions": (
        {"file": "interactions.csv", "row_number": 1, "line": 2, "attributes": "{}"},
        {"file": "interactions.csv", "row_number": 2, "line": 3, "attributes": "{}"},
    ),
    "raw.users": (
        {"file": "users.csv", "row_number": 1, "line": 2, "attributes": "{}"},
        {"file": "users.csv", "row_number": 2, "line": 3, "attributes": "{}"},
    ),
    "raw.broken_records": (
        {"table_name": "items", "file": "items.csv", "line": 4, "reason": "it is not JSON", "record": "{"},
        {"table_name": "items", "file": "items.csv", "line": 5, "reason": "it is not JSON", "record": "{"},
    ),
    "raw.files": (
        {"table_name": "items", "file": "items.csv", "sha256": "a", "written": "csv", "records": 1, "broken": 0},
        {"table_name": "users", "file": "users.csv", "sha256": "b", "written": "csv", "records": 1, "broken": 0},
    ),
    "staging.judged_users": ({"row_number": 1}, {"row_number": 2}),
    "staging.users": ({"user_id": "u"}, {"user_id": "v"}),
    "staging.rejected_users": (
        {"row_number": 1, "file": "a.csv", "line": 2, "reason": "no user id", "record": "{}"},
        {"row_number": 2, "file": "a.csv", "line": 3, "reason": "no user id", "record": "{}"},
    ),
    "staging.judged_items": ({"row_number": 1}, {"row_number": 2}),
    "staging.item_formats": (
        {"file": "a.csv", "item_floats": False, "broken_texts": 0},
        {"file": "b.csv", "item_floats": False, "broken_texts": 0},
    ),
    "staging.interaction_formats": ({"file": "a.csv", **FLOATS}, {"file": "b.csv", **FLOATS}),
    "staging.user_formats": (
        {"file": "a.csv", "user_floats": False},
        {"file": "b.csv", "user_floats": False},
    ),
    "staging.rejected_values": (
        {"row_number": 1, "item_id": "a", "field": "price", "value": "cheap", "reason": "price is not a number"},
        {"row_number": 1, "item_id": "a", "field": "available", "value": "so", "reason": "neither true nor false"},
    ),
    "staging.judged_interactions": ({"row_number": 1}, {"row_number": 2}),
    "staging.items": ({"item_id": "a", **ITEM}, {"item_id": "b", **ITEM}),
    "staging.interactions": (
        {"row_number": 1, "interacted_at": NOON, **LOG},
        {"row_number": 2, "interacted_at": NOON, **LOG},
    ),
    "staging.rejected_items": (
        {"row_number": 1, "file": "a.csv", "line": 2, "reason": "no id", "record": "{}"},
        {"row_number": 2, "file": "a.csv", "line": 3, "reason": "no id", "record": "{}"},
    ),
    "staging.rejected_interactions": (
        {"row_number": 1, "file": "a.csv", "line": 2, "reason": "no item id", "record": "{}"},
        {"row_number": 2, "file": "a.csv", "line": 3, "reason": "no item id", "record": "{}"},
    ),
    "histories.as_of": ({"as_of": LATER, "newest": NOON}, {"as_of": LATER, "newest": NOON}),
    "histories.user_histories": (
        {"position": 1, "interacted_at": NOON, **LOG},
        {"position": 2, "interacted_at": LATER, **LOG},
    ),
    "captions.all_captions": (
        {"item_id": "a", "status": "ok", "caption": "A chair.", **CAPTIONED},
        {"item_id": "b", "status": "missing", "error": "no file", **CAPTIONED},
    ),
    "captions.item_captions": (
        {"item_id": "a", "status": "ok", "caption": "A chair.", "captioner": "attributes@1"},
        {"item_id": "b", "status": "missing", "error": "no file", "captioner": "attributes@1"},
    ),
    "captions.item_details": (
        {"item_id": "a", "captioner": "attributes@1", "attributes": "{}", "details": "chairs"},
        {"item_id": "b", "captioner": "attributes@1", "attributes": "{}", "details": None},
    ),
    "embeddings.recipe_trials": (
        {"recipe": "title", "shoppers": 60, "ndcg": 0.1, "gain": 0.0, "gain_error": 0.0, "chosen": False},
        {"recipe": "title_caption", "shoppers": 60, "ndcg": 0.2, "gain": 0.1, "gain_error": 0.02, "chosen": True},
    ),
    "embeddings.item_texts": (
        {"item_id": "a", "text": "Oak chair", "recipe": "title_caption", "source": "title"},
        {"item_id": "b", "text": "Oak chair", "recipe": "title_caption", "source": "caption"},
    ),
    "embeddings.item_embeddings": ({"item_id": "a", **VECTOR}, {"item_id": "b", **VECTOR}),
    "embeddings.image_embeddings": (
        {"item_id": "a", "encoder": "tiny@1", "photo_hash": "f0", "vector": [0.6, 0.8]},
        {"item_id": "b", "encoder": "tiny@1", "photo_hash": "f1", "vector": [1.0, 0.0]},
    ),
    "profiles.event_weights": (
        {"event_type": "view", "meaning": "seen", **EVENT},
        {"event_type": "default", "meaning": "others", **EVENT},
    ),
    "profiles.likes": (
        {"user_id": "u", "position": 1, "item_id": "a", "days": 0.0},
        {"user_id": "u", "position": 2, "item_id": "a", "days": 1.0},
    ),
    "profiles.pace_trials": (
        {"parameter": "pace_days", "value": 20.0, "shoppers": 60, "ndcg": 0.1, "chosen": True},
        {"parameter": "regularisation", "value": 30.0, "shoppers": 60, "ndcg": 0.1, "chosen": True},
    ),
    "profiles.pace": (PACE, PACE),
    "profiles.profile_weights": (
        {
            "user_id": "u",
            "item_id": "a",
            "weight": 1.0,
            "recent": 1.0,
            "lasting": 1.0,
            "counts": True,
            "why": "1 x view",
        },
        {
            "user_id": "u",
            "item_id": "b",
            "weight": -1.0,
            "recent": 0.0,
            "lasting": 0.0,
            "counts": True,
            "why": "1 x hide",
        },
    ),
    "profiles.recent_items": ({"user_id": "u", "items": []}, {"user_id": "v", "items": []}),
    "profiles.favourite_categories": ({"user_id": "u", "categories": []}, {"user_id": "v", "categories": []}),
    "profiles.interests": (
        {"user_id": "u", "rank": 1, **INTEREST},
        {"user_id": "u", "rank": 2, **INTEREST},
    ),
    "profiles.user_profiles": (
        {"user_id": "u", "items": 1, "length": 1.0, "vector": [0.6, 0.8]},
        {"user_id": "v", "items": 1, "length": 0.5, "vector": [1.0, 0.0]},
    ),
    "embeddings.fitted_items": (
        {"item_id": "a", "fit": "gating@1", "vector": [0.6, 0.8]},
        {"item_id": "b", "fit": "gating@1", "vector": [1.0, 0.0]},
    ),
    "profiles.fitted_profiles": (
        {"user_id": "u", "items": 1, "length": 1.0, "vector": [0.6, 0.8]},
        {"user_id": "v", "items": 1, "length": 0.5, "vector": [1.0, 0.0]},
    ),
    "profiles.term_weights": (
        {"user_id": "u", "term": "chair", "word": "chairs", "weight": 1.0, "rank": 1},
        {"user_id": "u", "term": "oak", "word": "oak", "weight": 0.5, "rank": 2},
    ),
    "search.item_popularity": (
        {"item_id": "a", "shoppers": 2, "recent": 0, "score": 0.5, "rank": 1},
        {"item_id": "b", "shoppers": 1, "recent": 0, "score": 0.25, "rank": 2},
    ),
    "search.item_facets": (
        {"item_id": "a", "field": "price", "value": "3", "number": 3.0},
        {"item_id": "b", "field": "category", "value": "chairs", "number": None},
    ),
    "search.item_terms": (
        {"item_id": "a", "term": "oak", "word": "oak", "weight": 1.0, "rank": 1, "analyzer": "vlm4rec_english@3"},
        {"item_id": "a", "term": "chair", "word": "chair", "weight": 0.5, "rank": 2, "analyzer": "vlm4rec_english@3"},
    ),
    "search.item_neighbours": (
        {"item_id": "a", "neighbour_id": "b", "similarity": 1.0, "rank": 1},
        {"item_id": "b", "neighbour_id": "a", "similarity": 1.0, "rank": 1},
    ),
    "search.ease_weights": (
        {"item_id": "a", "neighbour_id": "b", "weight": 0.5, "rank": 1},
        {"item_id": "b", "neighbour_id": "a", "weight": -0.5, "rank": 1},
    ),
    "profiles.repeat_items": (
        {"user_id": "u", "item_id": "a", "times": 2, "last_on": date(2025, 3, 1), "score": 1.0, "rank": 1},
        {"user_id": "u", "item_id": "b", "times": 1, "last_on": date(2025, 3, 1), "score": 0.5, "rank": 2},
    ),
    "search.similar_shoppers": (
        {"user_id": "u", "items": [{"item_id": "a", "score": 1.0}]},
        {"user_id": "v", "items": [{"item_id": "b", "score": 0.5}]},
    ),
    "search.segment_popularity": (
        {"segment": "gold", "item_id": "a", "shoppers": 2, "rank": 1},
        {"segment": "gold", "item_id": "b", "shoppers": 1, "rank": 2},
    ),
    "search.item_documents": (
        {"item_id": "a", "captioner": "attributes@1", "content_hash": "f0", **ITEM, **VECTOR},
        {"item_id": "b", "captioner": "attributes@1", "content_hash": "f1", **ITEM, **VECTOR},
    ),
    "search.user_documents": (
        {"user_id": "u", "items": 1, "vector": [0.6, 0.8], "fitted": [0.6, 0.8], **LISTS},
        {"user_id": "v", "items": 0, "vector": [0.6, 0.8], "fitted": None, **LISTS},
    ),
}
