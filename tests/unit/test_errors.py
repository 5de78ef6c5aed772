"""One line from the errors of other libraries, and YAML files that people write."""

from pathlib import Path

import duckdb
import pytest
import yaml
from pydantic import BaseModel

from vlm4rec_search.common.errors import UsageError, first_line, one_line
from vlm4rec_search.common.yaml_files import parse_yaml, read_yaml


class Shelf(BaseModel):
    name: str
    rows: int = 1


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("a\n  b"), "a b"), (ValueError(" "), "ValueError"), ("two\nlines", "two lines")],
)
def test_one_line_collapses_white_space(error: object, line: str) -> None:
    assert one_line(error) == line


def test_first_line_leaves_out_the_sql_of_duckdb() -> None:
    with pytest.raises(duckdb.Error) as caught, duckdb.connect() as connection:
        connection.execute("SELECT missing")
    assert first_line(caught.value).startswith("Binder Error: Referenced column")
    assert "\n" in str(caught.value)
    assert first_line(KeyError()) == "KeyError"


def test_a_yaml_file_becomes_a_model_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "shelf.yaml"
    path.write_text("rows: 2")
    assert read_yaml(path, Shelf, "the shelf", defaults={"name": "a", "rows": 5}) == Shelf(name="a", rows=2)
    path.write_text("name: 007")
    assert read_yaml(path, Shelf, "the shelf", loader=yaml.BaseLoader) == Shelf(name="007")


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.BaseLoader])
def test_a_section_without_entries_counts_as_left_out(loader: type[yaml.SafeLoader | yaml.BaseLoader]) -> None:
    assert parse_yaml("name: a\nrows:\n# - 7", Shelf, "the shelf", loader) == Shelf(name="a", rows=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"^cannot read the shelf .*shelf.yaml \(.*No such file.*\): set SHELF$"),
        ("name: [", r"^the shelf .*shelf.yaml is not YAML: while parsing"),
        ("name: a\nrows: many", r"^the shelf .*shelf.yaml: rows: Input should be a valid integer"),
        ("name: a\nrows: 1\n'name': b", r"^the shelf .*: line 3 repeats the key 'name' of line 1: write one$"),
        ("just words", r"^the shelf .*shelf.yaml: write keys with their values"),
    ],
    ids=["missing", "syntax", "field", "repeated-key", "no-mapping"],
)
def test_a_bad_yaml_file_is_reported_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "shelf.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_yaml(path, Shelf, "the shelf", hint="set SHELF")
    assert "\n" not in str(caught.value)
