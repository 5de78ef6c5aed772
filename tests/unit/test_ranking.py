"""The ranking configuration: what ships is whole, and a mistake is told in one line."""

import re
from pathlib import Path

import pytest
import yaml

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.ranking import DEFAULT, load_ranking

SHIPPED = yaml.safe_load(DEFAULT.read_text("utf-8"))


def test_the_shipped_configuration_is_read() -> None:
    ranking = load_ranking()
    assert ranking.version == SHIPPED["version"]
    assert ranking.table_variables() == {
        name: SHIPPED[name]
        for name in (
            "pace_days",
            "half_life_days",
            "behaviour_half_life_days",
            "co_purchase_days",
            "popularity_days",
            "interests",
            "terms",
        )
    }


def test_a_shoppers_document_has_room_for_the_most_interests_of_a_ranking(tmp_path: Path) -> None:
    sql = (Path(__file__).parents[2] / "models" / "search" / "user_documents.sql").read_text("utf-8")
    joined = len(re.findall(r"interest_\d\.rank = \d", sql))
    fits, one_more = tmp_path / "fits.yaml", tmp_path / "one_more.yaml"
    fits.write_text(yaml.safe_dump({**SHIPPED, "interests": joined}), "utf-8")
    one_more.write_text(yaml.safe_dump({**SHIPPED, "interests": joined + 1}), "utf-8")
    assert load_ranking(fits).interests == joined
    with pytest.raises(UsageError, match="interests"):
        load_ranking(one_more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"half_life_days": 0}, "half_life_days: Input should be greater than 0"),
        ({"popularity_days": float("inf")}, "popularity_days"),
        ({"interests": 5}, "interests: Input should be less than or equal to 4"),
        ({"weights": {"semantic": 1}}, "weights.lexical: Field required"),
        ({"half_live_days": 3}, "half_live_days: Extra inputs are not permitted"),
        ({"version": ""}, "version"),
        ({"weights": dict.fromkeys(SHIPPED["weights"], 0)}, "at least one weight"),
    ],
)
def test_a_value_that_cannot_be_is_told(tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = tmp_path / "ranking.yaml"
    file.write_text(yaml.safe_dump(SHIPPED | change))
    with pytest.raises(UsageError, match=rf"ranking.yaml: {message}"):
        load_ranking(file)


@pytest.mark.parametrize("text", ["version: [", "- 1", "", "\x00"])
def test_a_file_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ranking.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"ranking\.yaml") as told:
        load_ranking(file)
    assert "\n" not in str(told.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the ranking configuration"):
        load_ranking(tmp_path / "none.yaml")
