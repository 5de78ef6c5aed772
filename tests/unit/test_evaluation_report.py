"""The page: marks where they belong, and nothing of a title becomes markup."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from helpers.interaction_logs import DAY, START, planted
from PIL import Image

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.report import COLUMNS, LEGEND, Chapter, forest, write_report
from vlm4rec_search.evaluation.results import Row, summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import Part, Parts, captions_note
from vlm4rec_search.evaluation.store import save
from vlm4rec_search.evaluation.systems import load_systems, registry
from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity, Random


def row(system: str, value: float, low: float | None, high: float | None) -> Row:
    return Row(system, "R@10", value, low, high, 10, 20, "all candidates")


def test_the_forest_is_to_scale() -> None:
    plot = forest([row("b", 0.1, 0.05, 0.2), row("a", 0.3, 0.2, 0.4), row("c", 0.9, None, None)], "R@10")
    assert [mark.label for mark in plot.marks] == ["a", "b"], "best first; without an interval there is no mark"
    # Five steps of 0.1 are more than 0.4 needs: the axis ends at 0.4.
    assert [label for _, label in plot.ticks] == ["0", "0.1", "0.2", "0.3", "0.4"]
    first = plot.marks[0]
    assert [first.low, first.middle, first.high] == pytest.approx([50.0, 75.0, 100.0])
    assert first.text == "0.3000 [0.2000, 0.4000]"
    assert forest([], "R@10").marks == []


class Tags(HTMLParser):
    """Collects the tags and sources of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_titles_are_text_and_photos_are_inside(tmp_path: Path) -> None:
    log = planted()
    split = log.split(START + 70 * DAY)
    split.catalogue.titles[:] = "<marquee>&amp; co</marquee>"
    split.catalogue.images[:] = np.array(["a.png", "../outside.png"] * 80, dtype=object)
    Image.new("RGB", (300, 200), "red").save(tmp_path / "a.png")
    Image.new("RGB", (300, 200), "red").save(tmp_path.parent / "outside.png")
    systems = [CoPurchase(), Popularity(), Random()]
    evaluation = evaluate(Parts(None, Part(split, log.targets(split))), systems)
    results = summarise(evaluation, Protocol(rule="leave-one-out").to_json(), 7)
    settings = Settings(data_dir=tmp_path, cache=tmp_path / "cache")
    write_report(tmp_path / "page.html", [Chapter(world, results, evaluation, settings) for world in ("photo", "")])
    page = (tmp_path / "page.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert "marquee" not in tags.tags
    assert "&lt;marquee&gt;&amp;amp; co&lt;/marquee&gt;" in page
    assert {"svg", "circle", "img"} <= tags.tags
    assert all(source.startswith(("data:image/jpeg;base64,", "data:,")) for source in tags.sources)
    assert "co-purchase finds best what users took next: nDCG@10 0." in page
    assert "significantly better than every other system." in page
    assert "Items that the same shoppers took as those of the history, by the plain cosine." in page
    assert "Leave-one-out leaks in time" in page
    assert (
        page.count("what users took next?</h1>"),
        page.count("world &ldquo;photo&rdquo;"),
        page.count('class="forest"'),
    ) == (
        1,
        1,
        4,
    )
    assert "Taken by those who took" in page
    assert save(results, evaluation, tmp_path / "results.duckdb") < save(
        results, evaluation, tmp_path / "results.duckdb"
    )


def test_the_page_says_which_settings_were_not_chosen(tmp_path: Path) -> None:
    log = planted()
    split = log.split(START + 70 * DAY)
    part, settings = Part(split, log.targets(split)), Settings(data_dir=tmp_path, cache=tmp_path / "cache")

    def page(parts: Parts) -> str:
        evaluation = evaluate(parts, load_systems(["popularity", "recent-popularity"]))
        results = summarise(evaluation, Protocol().to_json() | {"captions": "0 of 9 items"}, 7)
        write_report(tmp_path / "page.html", [Chapter("", results, evaluation, settings)])
        return (tmp_path / "page.html").read_text()

    unchosen = page(Parts(None, part))
    assert "30 days; not chosen" in unchosen
    assert "0 of 9 items" in unchosen
    assert "Nobody could be asked in the validation part" in unchosen
    assert "not chosen" not in page(Parts(part, part))


def test_missing_captions_are_told() -> None:
    def note(*captions: str | None) -> str:
        images = [*(f"{at}.png" for at in range(len(captions))), None]
        return captions_note(pa.table({"image": images, "caption": pa.array([*captions, None], pa.string())}), "vlm@1")

    assert note("a bag", "a hat") == note() == ""
    assert note("a bag", None).startswith("1 of 2 items with a photo have a caption by vlm@1")
    assert note(None, None).endswith("description-only uses texts of the shop")


def test_the_legend_knows_every_system_and_metric() -> None:
    legend = yaml.safe_load(LEGEND.read_text("utf-8"))
    assert registry().keys() == legend["systems"].keys()
    assert set(COLUMNS) == legend["metrics"].keys()
