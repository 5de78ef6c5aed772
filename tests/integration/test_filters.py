"""Filters: what can be written, and which documents fulfil it."""

import json
from collections.abc import Iterator
from math import inf

import pytest
from helpers.backends import Backend
from helpers.six_items import documents, given

from vlm4rec_search import Query
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.filters import Filter, parse_filter, parse_filters
from vlm4rec_search.search.searcher import Searcher


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("category=shoes", Filter("category", ("shoes",))),
        ("price=10..50", Filter("price", low=10, high=50)),
        ("price=..50", Filter("price", high=50)),
        ("price=-1.5..", Filter("price", low=-1.5)),
        ("price>=10", Filter("price", low=10)),
        ("price > 10", Filter("price", low=10, low_open=True)),
        ("price<=5e1", Filter("price", high=50)),
        ("price<50", Filter("price", high=50, high_open=True)),
        ("price=10", Filter("price", ("10",))),
        ("available=YES", Filter("available", ("true",))),
        ("shoe size=4..", Filter("shoe size", low=4)),
        ("note=a=b", Filter("note", ("a=b",))),
    ],
)
def test_parse_filter(text: str, condition: Filter) -> None:
    assert parse_filter(text) == condition


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("shoes", "write field=value"),
        ("=shoes", "write field=value"),
        ("category=", "write field=value"),
        ("price>cheap", "'cheap' is not a number"),
        ("price=cheap", "'cheap' is not a number"),
        ("price=nan", "'nan' is not a number"),
        ("price=1e400", "1e400 is too large for a number"),
        ("price>=1e400", "1e400 is too large"),
        ("price=..-1e400", "-1e400 is too large"),
        ("price=50..10", "matches nothing"),
        ("available=maybe", "true or false"),
    ],
)
def test_unreadable_filters(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_filter(text)


def test_same_field_twice_is_or() -> None:
    assert parse_filters(["a=1", "b>2", "a=3"]) == (
        Filter("a", ("1", "3")),
        Filter("b", low=2, high=inf, low_open=True),
    )


@pytest.fixture(scope="module")
def index(backend: Backend) -> Iterator[Searcher]:
    backend.publish(given(documents()))
    with backend.open() as opened:
        yield opened


@pytest.mark.parametrize(
    ("filters", "items"),
    [
        (["category=dresses"], "ab"),
        (["category=dresses", "category=lamps"], "abde"),
        (["category=dresses", "brand=Alder"], "a"),
        (["price=10..50"], "abcd"),
        (["price>10", "price<50"], "bc"),
        (["price<50"], "bcd"),
        (["price=10"], "d"),
        (["price=30..", "available=true"], "abf"),
        (["available=false"], "e"),
        (["tags=new"], "a"),
        (["tags=new", "tags=sale"], "ab"),
        (["size=42"], "c"),
        (["size>=42"], "c"),
        (["size<42"], ""),
        (['we"ird.$/~field=x'], "d"),
        (["brand=' OR 1=1 --"], ""),
    ],
)
def test_documents_that_fulfil_filters(index: Searcher, filters: list[str], items: str) -> None:
    hits = index.search(Query(user="nobody", filters=filters)).hits
    assert sorted(hit.item_id for hit in hits) == list(items)


def test_unknown_field_names_the_fields(index: Searcher) -> None:
    with pytest.raises(
        UsageError, match=r"no item has the field 'colour'.*available, brand, category, price, size, tags"
    ):
        index.search(Query(user="u1", filters=["colour=red"]))


def test_filters_apply_inside_every_leg(index: Searcher) -> None:
    for mode in ("semantic", "lexical", "hybrid"):
        answer = index.search(Query(user="u1", mode=mode, filters=["category=dresses"]))  # type: ignore[arg-type]
        assert [hit.item_id for hit in answer.hits] == ["b"]


def test_typed_values_are_found_as_people_write_them(backend: Backend) -> None:
    attributes = {
        "a": '{"size": 5.0, "sale": true}',
        "b": '{"size": "5", "sale": "True"}',
        "c": '{"size": "6.50", "sale": "FALSE"}',
        "d": '{"size": [5.0, 6.5]}',
        "e": '{"size": "[\\"7\\", \\"00005\\"]"}',
    }
    frame = documents()
    frame["attributes"] = frame["item_id"].map(attributes)
    backend.publish(given(frame))
    wanted = {
        ("size=5",): "abd",
        ("size=5.0",): "abd",
        ("size=6.5",): "cd",
        ("size=6.50",): "cd",
        ("size=5", "size=6.500"): "abcd",
        ("size=7",): "e",
        ("size=00005",): "e",
        ("size=5..6",): "abde",
        ("sale=true",): "ab",
        ("sale=False",): "c",
    }
    with backend.open() as index:
        for filters, items in wanted.items():
            answer = index.search(Query(user="nobody", filters=filters))
            assert "".join(sorted(hit.item_id for hit in answer.hits)) == items, filters


def test_a_server_reads_numbers_in_texts_as_a_folder_does(server: Backend, embedded: Backend) -> None:
    texts = ["12d", "1_000", " 7 ", "seven", "Infinity", "0x10"]
    frame = documents().assign(attributes=[json.dumps({"size": text}) for text in texts])
    found = []
    for place in (embedded, server):
        place.publish(given(frame))
        with place.open() as index:
            found.append({hit.item_id for hit in index.search(Query(user="nobody", filters=["size>=1"])).hits})
    assert found[0] >= {"b", "c"}
    assert found[0] == found[1]
