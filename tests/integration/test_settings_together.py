"""Settings of the user do not change what the project's own unit tests find."""

import pytest
import yaml
from helpers.workspace import ROOT, Workspace

from vlm4rec_search.search.ranking import DEFAULT


@pytest.fixture
def shop(workspace: Workspace) -> Workspace:
    workspace.vlm4rec("shop", "--to", "data", "--items", "20", "--shoppers", "10", "--clean")
    return workspace


def test_unit_tests_of_models_pass_with_settings_of_the_user(shop: Workspace) -> None:
    ranking = yaml.safe_load(DEFAULT.read_text())
    own = {"version": "own", "pace_days": 9, "interests": 4, "terms": 3, "text": "title"}
    (shop.folder / "ranking.yaml").write_text(yaml.safe_dump({**ranking, **own}))
    shop.settings |= {
        "VLM4REC_CAPTION_BUDGET": "0",
        "VLM4REC_CAPTION_MAX_COST": "1",
        "VLM4REC_PRICE_IN": "1",
        "VLM4REC_OTHER_CAPTIONERS": "tiny",
        "VLM4REC_RANKING": "ranking.yaml",
        "VLM4REC_AS_OF": "2024-01-01",
        "VLM4REC_ENCODER": "hashing-8",
        "VLM4REC_LANGUAGE": "german",
    }
    shop.run("sqlmesh", "-p", str(ROOT), "test")


def test_a_cap_without_prices_is_refused_before_a_plan(shop: Workspace) -> None:
    shop.settings["VLM4REC_CAPTION_MAX_COST"] = "1"
    assert "a cap on spend needs prices: set VLM4REC_PRICE_IN" in shop.plan(code=1)
