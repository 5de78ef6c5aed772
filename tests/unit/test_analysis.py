"""The analyzer gives the terms of Lucene's EnglishAnalyzer, and one term for a word with several spellings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm4rec_search.common.analyzer import ENGLISH, analyze, tokens


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The women's running shoes", ["women", "run", "shoe"]),
        ("caf\u00e9\u2019s d\u00e9cor", ["caf\u00e9", "d\u00e9cor"]),
        ("T-shirt, 3.5mm and 1,000;2 pcs.", ["tshirt", "shirt", "3.5mm", "1,000;2", "pc"]),
        ("U.S.A. foo_bar ad:hoc don't", ["u.s.a", "foo_bar", "ad:hoc", "don't"]),
        ("\u4f60\u597d \u30ab\u30bf \u304b\u306a", ["\u4f60", "\u597d", "\u30ab\u30bf", "\u304b", "\u306a"]),
        ("\u03a3\u03a6\u03a3 \u0130Z", ["\u03c3\u03c6\u03c3", "iz"]),  # no final sigma, no combining dot
        ("--- ___ ...", []),
        ("it is not the one", ["on"]),
        ("IT", ["it_"]),  # a text of stop words alone can be found
        ("To be, or not to be!", ["to_", "be_", "or_", "not_", "to_", "be_"]),
    ],
)
def test_analyze(text: str, terms: list[str]) -> None:
    assert analyze(text) == terms


@pytest.mark.parametrize(
    ("spellings", "terms"),
    [
        ("t-shirt | t shirt | tshirt | T\u2011Shirts", ["tshirt", "shirt"]),
        ("e-reader | e reader | EReader", ["eread", "reader"]),
        ("v-neck | V neck", ["vneck", "neck"]),
        ("5-inch | 5 inch | 5inch | 5 inches", ["5inch"]),
        ("2.5-kg | 2.5 KG", ["2.5kg"]),
        ("H&M | H & M | h&m's", ["hm"]),
        ("3-seater | 3-seaters", ["3seater", "seater"]),
    ],
)
def test_spellings_of_a_word_have_the_same_terms(spellings: str, terms: list[str]) -> None:
    assert {text: analyze(text) for text in spellings.split(" | ")} == dict.fromkeys(spellings.split(" | "), terms)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("vitamin c serum", ["vitamin", "c", "serum"]),
        ("knee-high 2-in-1", ["knee", "high", "2", "1"]),
        ("salt & pepper", ["salt", "pepper"]),
        ("12 pencils in tube", ["12", "pencil", "tube"]),
    ],
)
def test_other_words_are_not_joined(text: str, terms: list[str]) -> None:
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
    assert ENGLISH.stem(word) == term


def test_stop_words_are_lucenes_33() -> None:
    assert len(ENGLISH.stop_words) == 33
    assert [ENGLISH.stem(word) for word in sorted(ENGLISH.stop_words)] == [None] * 33


def test_tokens_give_the_word_of_each_term() -> None:
    assert list(tokens("Red Dresses")) == [("red", "red"), ("dress", "dresses")]


def test_long_tokens_are_cut_at_255() -> None:
    assert [len(word) for word in ENGLISH.words("x" * 600)] == [255, 255, 90]


@settings(deadline=None)
@given(st.text())
def test_any_text_gives_clean_terms(text: str) -> None:
    terms = analyze(text)
    assert all(term and not any(letter.isspace() for letter in term) for term in terms)
    assert terms == [term for term, _ in tokens(text)]
