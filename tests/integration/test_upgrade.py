"""A shop that ran version 0.1 goes on with this version: nothing that was paid is paid again, nothing is lost."""

import zipfile
from pathlib import Path

import pytest
from helpers.workspace import ROOT, Workspace

# A folder as version 0.1 left it after a plan and a publication: data, warehouse, cache, releases and their record.
OLD = ROOT / "tests" / "fixtures" / "project_0_1.zip"
CAPTION = "A canvas tote bag in a plain red with two long handles and a wide open top."


@pytest.fixture
def old_shop(tmp_path: Path) -> Workspace:
    """A new project with the files of a shop of version 0.1, whose captioning server answers no more."""
    settings = {"VLM4REC_CAPTIONER": "openai:product-vlm", "VLM4REC_OPENAI_URL": "http://127.0.0.1:9/v1"}
    shop = Workspace(tmp_path, {"VLM4REC_PROJECT": "", **settings})
    with zipfile.ZipFile(OLD) as archive:
        archive.extractall(tmp_path)
    shop.vlm4rec("init", ".")
    return shop


def test_a_shop_of_version_0_1_pays_for_no_caption_again_and_keeps_its_records(old_shop: Workspace) -> None:
    assert "publish again with `vlm4rec index`" in old_shop.vlm4rec("search", "--text", "tote", code=2)
    old_shop.run("sqlmesh", "plan", "--auto-apply", "--no-prompts", "--skip-tests")
    assert old_shop.computed("caption") == [1, 0]
    assert old_shop.computed("sentence") == [2, 0]
    rows = old_shop.query("SELECT item_id, status, caption FROM captions.item_captions ORDER BY item_id")
    assert rows == [("00001", "ok", CAPTION), ("00002", "no_photo", None)]
    release = old_shop.json("index")["release"]
    assert old_shop.json("search", "--text", "tote", "--mode", "lexical")["hits"][0]["item_id"] == "00001"
    records = "SELECT release FROM releases ORDER BY recorded_at"
    assert [name for (name,) in old_shop.query(records, "releases.duckdb")] == [
        "items__v4__hashing-64__20261128t132417316",
        release,
    ]
