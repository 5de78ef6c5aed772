"""A query checks its own values."""

import pytest

from vlm4rec_search import Filter, Query
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.query import KINDS


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "needs a user, a text, items or a photo"),
        ({"user": ""}, "user id is empty"),
        ({"user": "\u200b"}, "user id is empty"),
        ({"items": ["a", "\u200b"]}, "item id is empty"),
        ({"text": "  "}, "text is empty"),
        ({"text": "x" * 10_001}, "10,001 characters"),
        ({"user": "u", "k": 0}, "k is 0: use a whole number from 1 to 10,000"),
        ({"user": "u", "k": 10_001}, "k is 10001"),
        ({"user": "u", "depth": 0}, "depth is 0"),
        ({"user": "u", "min_score": float("nan")}, "min_score is nan"),
        ({"user": "u", "min_score": "a"}, "min_score is 'a': use a finite number"),
        ({"user": "u", "diversity": "a"}, "diversity is 'a'"),
        ({"user": 7}, "the user id is 7: use a text"),
        ({"items": ("a", 3)}, "the item id is 3: use a text"),
        ({"user": "u", "exclude": [None]}, "the item id is None: use a text"),
        ({"user": "u", "count": "brand"}, "count is a list of fields"),
        ({"user": "u", "count": 5}, "count is a list of fields"),
        ({"user": "u", "items": 5}, "items is a list of at most 100 item ids"),
        ({"user": "u", "filters": "brand=x"}, "filters is 'brand=x': use a list of filters"),
        ({"user": "u", "filters": 3}, "filters is 3: use a list of filters"),
        ({"user": "u", "filters": [3]}, "the filter 3 is no text"),
        ({"user": "u", "mode": "magic"}, "mode is 'magic'"),
        ({"user": "u", "fusion": "sum"}, "fusion is 'sum'"),
        ({"user": "u", "weights": {"visual": 1.0}}, "weight visual=1.0"),
        ({"user": "u", "weights": {"\ud800": 1.0}}, "kind of a weight is not UTF-8 text"),
        ({"user": "u", "weights": {"lexical": -1.0}}, "weight lexical=-1.0"),
        ({"user": "u", "weights": {"lexical": "a"}}, "weight lexical=a"),
        ({"user": "u", "weights": {"lexical": float("nan")}}, "weight lexical=nan"),
        ({"user": "u", "weights": {"lexical": 1e308, "semantic": 1e308}}, "use a number from 0 to 1,000,000"),
        ({"user": "u", "weights": dict.fromkeys(KINDS, 0.0)}, "weights are all 0"),
        ({"user": "u", "filters": "category=shoes"}, "a list of filters"),
        ({"user": "u", "filters": ["category=\ud800"]}, "filter is not UTF-8 text"),
        ({"user": "u", "filters": [Filter("\udfff", low=1.0)]}, "filter is not UTF-8 text"),
        ({"user": "u", "filters": [Filter("price", low=float("inf"))]}, "bounds inf and inf: use finite numbers"),
        ({"user": "u", "filters": [Filter("price", high=float("nan"))]}, "bounds -inf and nan: use finite numbers"),
    ],
)
def test_queries_check_themselves(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Query(**options)  # type: ignore[arg-type]


def test_ids_and_texts_have_the_form_of_the_tables() -> None:
    query = Query(user="zoe\u0308 ", text="gru\u0308n", items=["ku\u0308-1"], filters=["category=Ku\u0308che"])
    assert (query.user, query.text, query.items) == ("zoë", "grün", ("kü-1",))
    assert query.conditions[0].values == ("Küche",)
