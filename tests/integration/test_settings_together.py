"""Settings of the user do not change what the project's own unit tests find."""

import pytest
import yaml
from helpers.workspace import ROOT, Workspace

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import settings
from vlm4rec_search.pipeline.variables import project_variables
from vlm4rec_search.search.ranking import DEFAULT


@pytest.mark.long
def test_unit_tests_of_models_pass_with_settings_of_the_user(workspace: Workspace) -> None:
    workspace.settings["VLM4REC_DATA_DIR"] = str(ROOT / "tests" / "data" / "raw")
    ranking = yaml.safe_load(DEFAULT.read_text())
    own = {"version": "own", "pace_days": 9, "interests": 4, "terms": 3, "text": "title"}
    (workspace.folder / "ranking.yaml").write_text(yaml.safe_dump({**ranking, **own}))
    workspace.settings |= {
        "VLM4REC_CAPTION_BUDGET": "0",
        "VLM4REC_CAPTION_MAX_COST": "1",
        "VLM4REC_PRICE_IN": "1",
        "VLM4REC_OTHER_CAPTIONERS": "tiny",
        "VLM4REC_RANKING": "ranking.yaml",
        "VLM4REC_AS_OF": "2024-01-01",
        "VLM4REC_ENCODER": "hashing-8",
        "VLM4REC_LANGUAGE": "german",
    }
    assert "Successfully Ran" in workspace.run("sqlmesh", "-p", str(ROOT), "test")


def test_a_cap_without_prices_is_refused_before_a_plan(workspace: Workspace) -> None:
    workspace.settings |= {"VLM4REC_DATA_DIR": str(ROOT / "tests" / "data" / "raw"), "VLM4REC_CAPTION_MAX_COST": "1"}
    with workspace.inside(), pytest.raises(UsageError, match="a cap on spend needs prices: set VLM4REC_PRICE_IN"):
        project_variables(settings())
