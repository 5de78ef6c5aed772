"""contract.yaml beside the data: what is declared is read, and a mistake is one line that helps."""

import re
from pathlib import Path

import pytest

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.declarations import Declarations, load_declarations, variable


def test_a_folder_without_the_file_declares_nothing(tmp_path: Path) -> None:
    assert load_declarations(tmp_path) == Declarations()
    (tmp_path / "contract.yaml").write_text("# nothing yet\n")
    assert load_declarations(tmp_path) == Declarations()
    assert variable(Declarations().values) == "{}"


def test_values_are_declared_in_the_words_of_the_shop(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(
        """
        values:
          decimal: ","
          time_form: dmy
          time_zone: Europe/Berlin
          time_zones: {EST: "-05:00", ist: +05:30}
          events: {In den Warenkorb: cart, addTo-List: wishlist}
          rating_scale: 10
          rating_events: [Star Rating, it's]
          nothing: {all: [no, null]}
        """
    )
    values = load_declarations(tmp_path).values
    assert (values.decimal, values.time_form, values.time_zone, values.rating_scale) == (
        ",",
        "dmy",
        "Europe/Berlin",
        10,
    )
    assert values.time_zones == {"EST": -300, "IST": 330}
    assert values.events == {"in_den_warenkorb": "cart", "add_to_list": "wishlist"}
    assert values.nothing == {"all": ("no", "null")}
    assert values.rating_events == ("star_rating", "it_s")


@pytest.mark.parametrize(
    ("locale", "decimal", "order"),
    [
        ("de_DE", ",", "dmy"), ("de-CH", ".", "dmy"), ("en_US.UTF-8", ".", "mdy"), ("en_GB", ".", "dmy"),
        ("en", ".", None), ("sv_SE", ",", None),
    ],
)  # fmt: skip
def test_a_locale_stands_for_a_decimal_sign_and_an_order(
    tmp_path: Path, locale: str, decimal: str, order: str | None
) -> None:
    (tmp_path / "contract.yaml").write_text(f"values: {{locale: {locale}}}")
    values = load_declarations(tmp_path).values
    assert (values.decimal, values.time_form) == (decimal, order)
    (tmp_path / "contract.yaml").write_text(f'values: {{locale: {locale}, decimal: ".", time_form: mdy}}')
    values = load_declarations(tmp_path).values
    assert (values.decimal, values.time_form) == (".", "mdy")


def test_the_example_of_the_docs_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
    [example] = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "contract.yaml").write_text(example, "utf-8")
    declared = load_declarations(tmp_path)
    assert declared.values.time_zone == "Europe/Berlin"
    assert declared.values.events == {"in_den_warenkorb": "cart"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("value: {}", "unknown key value: did you mean values?"),
        ("colours: {}", "unknown key colours: known are "),
        ("- values", "the declarations"),
        ("values: {locale: xx_XX}", "the locale xx_XX is not known"),
        ("values: [", "is not YAML"),
        ("values: {time_zone: Berlin}", "Berlin is no time zone"),
        ("values: {time_zones: {EST: five}}", "EST: five is not an abbreviation with an offset"),
        ("values: {decimal: ;}", "values.decimal: "),
        ("values: {rating_scale: 0}", "values.rating_scale: "),
        ("values: {nothing: {titel: []}}", "there is no column titel: did you mean title?"),
        ("items: {encoding: rot13}", "there is no encoding rot13"),
        ("items: {encoding: idna}", "there is no encoding idna"),
        ("items: {encoding: undefined}", "there is no encoding undefined"),
        ("items: []", "items: write keys with their values, such as key: value"),
        ("items: {map: Titel}", "items.map: write keys with their values"),
        ("values: {available: ja}", "values.available: write a list, such as [a, b]"),
        ("items: {delimiter: [a]}", "items.delimiter: write one text"),
        ("items: {map: {title: []}}", "title needs the name of a column of the file"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "contract.yaml").write_text(content)
    with pytest.raises(UsageError) as caught:
        load_declarations(tmp_path)
    assert message in str(caught.value)
    assert "contract.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["items:\n# map: {title: Titel}\nvalues:\n", "items:\n  map:\n  files:\nvalues: {events: }"]
)
def test_what_is_empty_declares_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "contract.yaml").write_text(content)
    assert load_declarations(tmp_path) == Declarations()


def test_another_suffix_is_told(tmp_path: Path) -> None:
    (tmp_path / "contract.yml").write_text("items: {delimiter: ';'}")
    with pytest.raises(UsageError, match="is not read: rename it contract"):
        load_declarations(tmp_path)


def test_one_column_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text("users: {columns: user_id}")
    assert load_declarations(tmp_path).users.columns == ("user_id",)


def test_a_declared_kind_of_event_may_be_another_word_for_a_usual_one(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(
        "values: {events: {Kauf: buy, Merken: addToWishlist, Probe: Test drive, saved: saved, Ablegen: saved}}"
    )
    events = {"kauf": "purchase", "merken": "wishlist", "probe": "test_drive", "saved": "saved", "ablegen": "saved"}
    assert load_declarations(tmp_path).values.events == events
