"""Captions in `sqlmesh plan`: the budget, captions made ahead of it, edits and attributes; and the comparison page."""

import re
from pathlib import Path

import pytest
from helpers.colour_catalogue import install_colour_captioner, read_calls, write_catalogue
from helpers.workspace import Workspace

from vlm4rec_search.captioning.comparison import compare_captioners
from vlm4rec_search.captioning.run import run_captions
from vlm4rec_search.common.errors import UsageError

STATUSES = "SELECT status, COUNT(*) FROM captions.item_captions GROUP BY ALL ORDER BY ALL"


def test_a_plan_keeps_its_budget_and_uses_captions_and_edits_made_since(workspace: Workspace) -> None:
    own = {"VLM4REC_CAPTIONER": "colour:0", "VLM4REC_CAPTION_BUDGET": "5", "VLM4REC_OTHER_CAPTIONERS": "attributes"}
    workspace.settings |= {**own, **install_colour_captioner(workspace.folder)}
    workspace.vlm4rec("shop", "--to", "data", "--items", "16", "--shoppers", "10", "--clean")
    workspace.plan()
    assert workspace.query(STATUSES) == [("ok", 5), ("pending", 11)]
    assert len(read_calls(workspace.folder)) == 5
    assert workspace.query("SELECT active, COUNT(*) FROM captions.all_captions GROUP BY ALL ORDER BY ALL") == [
        (False, 16),
        (True, 16),
    ]
    assert "No changes to plan" in workspace.plan(), "captions that a plan makes are no change for the next plan"

    assert workspace.json("captions", "run")["computed"] == 11
    edits = workspace.folder / "edits.csv"
    edits.write_text("item_id,caption,editor\n00001,A thing that Ann has seen.,ann\n")
    workspace.settings["VLM4REC_CAPTION_EDITS"] = "edits.csv"
    planned = workspace.plan()
    assert "captions.all_captions" in planned
    assert "histories.user_histories" not in planned
    assert workspace.query(STATUSES) == [("ok", 16)]
    assert len(read_calls(workspace.folder)) == 16
    (edited,) = workspace.query("SELECT caption, editor FROM captions.item_captions WHERE item_id = '00001'")
    assert edited == ("A thing that Ann has seen.", "ann")
    documents = dict(workspace.query("SELECT item_id, attributes ->> '$.red' FROM search.item_documents"))
    answers = dict(workspace.query("SELECT item_id, answer FROM captions.item_captions"))
    assert documents.pop("00001") is None, "a manual caption drops the attributes of the model"
    assert documents == {item: re.findall(r"\d+", answers[item])[0] for item in documents}
    assert len(documents) == 15


def compare_colours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("COLOUR_LOG", install_colour_captioner(folder)["COLOUR_LOG"])
    # i1 and i2 have the same colour, i3 has another; its title contains markup on purpose
    items = [("i1", (200, 0, 0), 3), ("i2", (200, 0, 0), 2), ("<b>i3", (0, 200, 0), 1), ("i4", (0, 0, 255), 0)]
    settings = write_catalogue(folder, *items)
    with pytest.raises(UsageError, match="have described 0 items together"):
        compare_captioners(settings, "colour", "attributes", folder / "page.html")
    run_captions(settings)
    run_captions(settings, "attributes")
    with pytest.raises(UsageError, match="are the same captioner"):
        compare_captioners(settings, "colour:0", "colour:9", folder / "page.html")
    return compare_captioners(settings, "colour:0", "attributes", folder / "page.html", count=2)


def test_two_captioners_are_compared_on_a_self_contained_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = compare_colours(tmp_path, monkeypatch)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert (result["items"], result["described"]) == (2, 3), "one captioner refused the blue photo"
    assert result["captioners"]["colour@1"] == {  # type: ignore[index]
        "ok": 3,
        "characters": pytest.approx(30.0, abs=2),
        "different": pytest.approx(2 / 3, abs=1e-4),
        "seconds": 0.0,
    }
    assert result["shared"] == 1.0, "each item has the other two as neighbours"
    assert "An item of the colour 200 0 0." in page
    assert "&lt;b&gt;i3" in page
    assert "<b>i3" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page), "the page loads nothing from elsewhere"
    assert page.count("data:image/jpeg;base64,") == 2 + 2 * 2 * 2
