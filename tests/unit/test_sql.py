"""Texts of users stand in SQL as hexadecimal digits."""

import re

import duckdb
import pytest

from vlm4rec_search.common.sql import hex_text, hex_texts

TEXTS = ("u021", "", "'; DROP TABLE users; --", "a\0b", 'Müller \\ "x"', "🎒\n%", "decode(unhex('75'))")


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_a_value_whatever_it_contains(text: str) -> None:
    assert re.fullmatch(r"decode\(unhex\('[0-9a-f]*'\)\)", hex_text(text))
    assert duckdb.sql(f"SELECT {hex_text(text)}").fetchall() == [(text,)]


def test_texts_are_the_rows_of_a_subquery() -> None:
    for texts in (TEXTS, ()):
        assert duckdb.sql(f"FROM {hex_texts(texts)}").fetchall() == [(text,) for text in texts]
