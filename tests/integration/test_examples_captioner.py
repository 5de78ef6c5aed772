"""The example of a captioner in a package of its own is found by its entry point and captions photos."""

import tomllib
from pathlib import Path

import pytest
from helpers.colour_catalogue import write_catalogue
from helpers.entry_points import write_distribution
from helpers.workspace import ROOT

from vlm4rec_search.captioning.base import Captioner
from vlm4rec_search.captioning.registry import GROUP, load_captioner
from vlm4rec_search.captioning.run import look_up_captions, run_captions
from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.settings import Settings

EXAMPLE = ROOT / "examples" / "own_captioner"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the example into a folder that this process searches for packages; return the folder."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    entry_points = [f"{name} = {factory}" for name, factory in project["entry-points"][GROUP].items()]
    write_distribution(tmp_path / "site", project["name"], *entry_points)
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path


def test_the_example_is_loaded_by_name_with_its_argument(installed: Path) -> None:
    captioner = load_captioner("mean-colour:shade", Settings())
    assert isinstance(captioner, Captioner)
    assert (captioner.id, captioner.prompt) == ("mean-shade@1", "category@1")


def test_a_run_with_the_example_captions_every_photo(installed: Path) -> None:
    items = [("red", (200, 30, 40), 1), ("blue", (0, 0, 255), 0)]
    settings = write_catalogue(installed, *items, captioner="mean-colour")
    summary = run_captions(settings)
    assert (summary.captioner, summary.computed, summary.statuses) == ("mean-colour@1", 2, {"ok": 2})
    with Cache(settings.cache) as cache:
        captions = look_up_captions(settings, cache)
    assert [outcome.answer for outcome in captions.outcomes] == [
        "An item of the category things with the mean colour #c81e28.",
        "An item of the category things with the mean colour #0000ff.",
    ]
