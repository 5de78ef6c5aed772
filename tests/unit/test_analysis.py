"""The analyzer gives the terms of Lucene's EnglishAnalyzer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm4rec_search.common.analyzer import STOP_WORDS, analyze, stem, tokens, words


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The women's running shoes", ["women", "run", "shoe"]),
        ("caf\u00e9\u2019s d\u00e9cor", ["caf\u00e9", "d\u00e9cor"]),
        ("T-shirt, 3.5mm and 1,000;2 pcs.", ["t", "shirt", "3.5mm", "1,000;2", "pc"]),
        ("U.S.A. foo_bar ad:hoc don't", ["u.s.a", "foo_bar", "ad:hoc", "don't"]),
        ("\u4f60\u597d \u30ab\u30bf \u304b\u306a", ["\u4f60", "\u597d", "\u30ab\u30bf", "\u304b", "\u306a"]),
        ("\u03a3\u03a6\u03a3 \u0130Z", ["\u03c3\u03c6\u03c3", "iz"]),  # no final sigma, no combining dot
        ("--- ___ ...", []),
        ("it is not the one", ["on"]),
    ],
)
def test_analyze(text: str, terms: list[str]) -> None:
    assert analyze(text) == terms


@pytest.mark.parametrize(
    ("word", "term"),
    [
        ("us", "us"),  # words of one or two letters stay as they are
        ("ties", "ti"),
        ("possibly", "possibl"),  # -bli -> -ble
        ("technology", "technolog"),  # -logi -> -log
        ("biology", "biologi"),  # no vowel and consonant before -logi
        ("trekking", "trek"),  # any double consonant becomes single
        ("relational", "relat"),
        ("hopping", "hop"),
        ("generalizations", "gener"),
    ],
)
def test_stem_is_porters_own_revision(word: str, term: str) -> None:
    assert stem(word) == term


def test_stop_words_are_lucenes_33() -> None:
    assert len(STOP_WORDS) == 33
    assert [stem(word) for word in sorted(STOP_WORDS)] == [None] * 33


def test_tokens_give_the_word_of_each_term() -> None:
    assert list(tokens("Red Dresses")) == [("red", "red"), ("dress", "dresses")]


def test_long_tokens_are_cut_at_255() -> None:
    assert [len(word) for word in words("x" * 600)] == [255, 255, 90]


@settings(deadline=None)
@given(st.text())
def test_any_text_gives_clean_terms(text: str) -> None:
    terms = analyze(text)
    assert all(term and not any(letter.isspace() for letter in term) for term in terms)
    assert terms == [term for term, _ in tokens(text)]
