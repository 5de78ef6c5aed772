"""The seed of event weights: its signs are what people would expect, and every demo event is in it."""

import csv

import pytest
from helpers.workspace import ROOT

from vlm4rec_search.datasets.demo_shop.shoppers import EVENTS

with (ROOT / "models" / "profiles" / "event_weights.csv").open() as file:
    WEIGHTS = {row["event_type"]: float(row["weight"]) for row in csv.DictReader(file)}


def test_a_purchase_says_more_than_a_cart_and_a_cart_more_than_a_view() -> None:
    assert WEIGHTS["purchase"] > WEIGHTS["cart"] > WEIGHTS["view"] > 0
    assert 0 < WEIGHTS["default"] < WEIGHTS["purchase"]
    assert set(EVENTS) <= WEIGHTS.keys()


@pytest.mark.parametrize("event", ["return", "hide", "dislike", "remove"])
def test_what_shoppers_dislike_pushes_away(event: str) -> None:
    assert WEIGHTS[event] < 0
