"""The words of a search find what people mean, on both backends."""

from helpers.backends import Backend
from helpers.six_items import documents, given

from vlm4rec_search import Query

SHIRTS = ["Cotton t-shirt", "Linen T Shirt", "Tshirt", "H&M belt", "E-reader, 5-inch", "Model T car, 5 doors"]
DETAILS = ["tops", "tops", "tops", "accessories, M & S", "electronics", "toys, navy"]


def titles(backend: Backend, text: str) -> list[str]:
    frame = documents().assign(title=SHIRTS, description=None, caption=None, details=DETAILS)
    backend.publish(given(frame))
    with backend.open() as index:
        return [hit.title for hit in index.search(Query(text=text, mode="lexical")).hits]


def test_spellings_of_a_word_find_each_other(backend: Backend) -> None:
    assert set(titles(backend, "t-shirt")) == set(SHIRTS[:3])


def test_initials_and_measures_are_words(backend: Backend) -> None:
    assert titles(backend, "H & M 5 inch") == ["H&M belt", "E-reader, 5-inch"]


def test_category_and_attributes_are_found(backend: Backend) -> None:
    assert titles(backend, "navy toy") == ["Model T car, 5 doors"]
