"""The pages in a browser without a network: no error, no request to elsewhere, readable on a telephone."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from helpers.browser import barriers, launched, open_page
from helpers.interaction_logs import DAY, START, planted
from PIL import Image
from playwright.sync_api import Browser

from vlm4rec_search.captioning.comparison import Neighbour, Pair, Side
from vlm4rec_search.common.pages import write_page
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.report import Chapter, write_report
from vlm4rec_search.evaluation.results import summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity, Random
from vlm4rec_search.pipeline.quality import run_suites

ROOT = Path(__file__).parents[2]
NAMES = ("quality", "evaluation", "comparison")
# A title without a place to break it, as real catalogues have them.
LONG = "Handgewebte<b>Baumwolltagesdecke</b>" * 4
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {
        "quality": write_quality(folder),
        "evaluation": folder / "evaluation.html",
        "comparison": folder / "c.html",
    }
    write_evaluation(paths["evaluation"])
    side = Side("A caption. " * 20, [Neighbour(LONG, PIXEL, 0.9)] * 5)
    write_page(
        paths["comparison"],
        "vlm4rec_search.captioning",
        "comparison.html",
        pairs=[Pair("1", LONG, PIXEL, (side, side), 0.4)] * 3,
        facts={name: {"ok": 3, "characters": 90.0, "different": 1.0, "seconds": 0.1} for name in ("tiny@1", "own@2")},
        shared=0.4,
        described=3,
        encoder="hashing-64",
    )
    return paths


def write_quality(folder: Path) -> Path:
    """Write the page about two checks, the second of which fails with an example that is markup."""
    warehouse = folder / "warehouse.duckdb"
    with duckdb.connect(warehouse) as connection:
        connection.execute((ROOT / "tests/fixtures/good_tables.sql").read_text())
    run_suites(warehouse, ROOT / "expectations", docs=folder / "quality")
    with duckdb.connect(warehouse) as connection:
        connection.execute("UPDATE search.item_documents SET price = -1, item_id = ? WHERE item_id = 'i3'", [LONG])
    page = run_suites(warehouse, ROOT / "expectations", only="item_documents", docs=folder / "quality").docs
    assert page is not None
    return page


def write_evaluation(path: Path) -> None:
    log = planted()
    split = log.split(START + 70 * DAY)
    split.catalogue.titles[:] = LONG
    split.catalogue.images[:] = np.array(["a.png", ""] * 80, dtype=object)
    Image.new("RGB", (300, 200), "red").save(path.parent / "a.png")
    evaluation = evaluate(Parts(None, Part(split, log.targets(split))), [CoPurchase(), Popularity(), Random()])
    results = summarise(evaluation, Protocol().to_json(), 7)
    settings = Settings(data_dir=path.parent, cache=path.parent / "cache")
    write_report(path, [Chapter("", results, evaluation, settings)])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_works_alone_and_fits_the_window(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    with open_page(browser, pages[name], width) as (page, complaints):
        for summary in page.locator("summary").all():
            if summary.locator("..").get_attribute("open") is None:
                summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").first.is_visible()
        assert page.locator(".verdict").first.inner_text()
        assert complaints == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_follows_the_colours_of_the_reader_and_has_no_barriers(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    backgrounds = []
    for colours in ("light", "dark"):
        with open_page(browser, pages[name], 1280, colours) as (page, _):
            backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert barriers(page) == []
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(22, 25, 29)"]


def test_the_index_of_suites_leads_to_a_failure_and_its_examples(browser: Browser, pages: dict[str, Path]) -> None:
    with open_page(browser, pages["quality"], 1280) as (page, _):
        assert "item_documents failed" in page.locator(".verdict").inner_text()
        page.get_by_role("link", name="item_documents").click()
        assert page.url.endswith("#item_documents")
        suite = page.locator("#item_documents ~ table").first
        assert "✗ failed" in suite.locator("tr").nth(1).inner_text()
        for summary in suite.locator("summary").all():
            summary.click()
        # The rules of one result stand in the order of the suite's file.
        examples = [example.inner_text() for example in suite.locator("li").all()]
        assert examples[0] == "has_document False, item_id i3"
        assert LONG in examples[1]
