"""What most captions share is removed; what tells items apart stays."""

import pandas as pd

from vlm4rec_search.common.boilerplate import remove_boilerplate, remove_sentences_of_the_shop
from vlm4rec_search.embeddings.recipes import embedded_parts, item_texts
from vlm4rec_search.profiles import term_weights

COLOURS = ["navy", "red", "green", "white", "black"]
TEMPLATE = "A {} item (bags), smooth matte surface; tall outline."


def test_shared_words_and_phrases_are_removed() -> None:
    captions = [TEMPLATE.format(COLOURS[number % 5]) for number in range(40)]
    assert set(remove_boilerplate(captions)) == {f"A {colour}" for colour in COLOURS}


def test_a_trait_of_a_third_of_the_items_stays() -> None:
    uses = ["parties", "offices", "gardens"]
    captions = [f"A {COLOURS[number % 5]} bag for {uses[number % 3]}." for number in range(45)]
    assert remove_boilerplate(captions)[:2] == ["A navy for parties.", "A red for offices."]


def test_a_caption_of_boilerplate_alone_is_none() -> None:
    captions = [*["A photo of a product."] * 30, None, "A lamp."]
    assert remove_boilerplate(captions)[-3:] == [None, None, "A lamp."]


def test_boilerplate_of_a_small_catalogue_is_what_all_captions_have() -> None:
    captions = [f"A {colour} item, plain; {'tall' if colour == 'red' else 'compact'} outline." for colour in COLOURS]
    assert remove_boilerplate(captions)[:2] == ["A navy, compact.", "A red, tall."]
    few: list[str | None] = ["A mug.", "A mug.", None]
    assert remove_boilerplate(few) == few


def test_sentences_of_the_shop_are_removed_and_those_of_items_stay() -> None:
    shop = ["Ships within two days.", "Free returns for a month!", "100% cotton."]
    descriptions = [f"A {COLOURS[number % 5]} mug of {number} ml. {shop[number % 3]}" for number in range(30)]
    titles = [f"Mug{number} {COLOURS[number % 5]}" for number in range(30)]
    cleaned = remove_sentences_of_the_shop([*descriptions, None, "SHIPS within two days"], [*titles, "a", "b"])
    assert cleaned[:3] == ["A navy mug of 0 ml.", "A red mug of 1 ml.", "A green mug of 2 ml. 100% cotton."]
    assert cleaned[-2:] == [None, None]
    few = descriptions[:19]
    assert remove_sentences_of_the_shop(few, titles[:19]) == few, "a small catalogue has none"
    rare = [*[f"Unlike any other item: {number}." for number in range(28)], *["Dries in an hour."] * 2]
    assert remove_sentences_of_the_shop(rare, titles) == rare, "a few items may share a sentence"


def test_the_colours_of_one_product_keep_its_description() -> None:
    products = ["Alder sweater", "Birch jacket", "Cedar shirt", "Elm hat"]
    titles = [f"{product} {colour}" for product in products for colour in [*COLOURS, "pink"]]
    descriptions = [f"The {product} is for cold days. Ships within two days." for product in products for _ in range(6)]
    assert remove_sentences_of_the_shop(descriptions, titles) == [text[:-23] for text in descriptions]


def test_boilerplate_is_neither_embedded_nor_a_word_of_a_profile() -> None:
    titles = [f"tote {number}x" for number in range(40)]
    captions = [TEMPLATE.format(COLOURS[number % 5]) for number in range(40)]
    items = [f"i{number}" for number in range(40)]
    documents = pd.DataFrame({"item_id": items, "title": titles, "caption": captions}).assign(
        description=None, details=None
    )
    texts = item_texts(embedded_parts(documents), "caption_title")
    assert texts["text"][0] == "A navy. tote 0x"
    weights = pd.DataFrame({"user_id": ["u"], "item_id": ["i0"], "weight": [1.0]})
    assert term_weights(weights, texts)["word"].tolist() == ["navy", "tote"]
