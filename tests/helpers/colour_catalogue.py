"""A small catalogue of one-colour photos with the tables that `vlm4rec captions` reads, and a captioner with a log.

The captioner is a package of its own that is found by its entry point. `colour:<milliseconds>` waits for this time and
then names the mean colour of a photo, in four threads. Its log gets a line at the start and at the end of each call. It
refuses pure blue photos, and answers a black photo with the prompt.
"""

import os
from pathlib import Path

import duckdb
import pytest
from PIL import Image

from helpers.entry_points import write_distribution
from vlm4rec_search.common.settings import Settings

WORKERS = 4
Item = tuple[str, tuple[int, int, int], int]
"""Name, RGB colour of the photo, and number of interactions."""

_MODULE = """
import os, time
from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError

class Colour(Captioner):
    id, prompt, batch_size, workers = "colour@1", "title-1", 1, 4

    def __init__(self, argument, settings):
        self.wait = float(argument or 0) / 1000

    def render(self, context):
        return context.title

    def caption(self, photos, prompts):
        red, green, blue = photos[0].resize((1, 1)).getpixel((0, 0))
        self.log(f"start {red} {green} {blue}")
        time.sleep(self.wait)
        self.log(f"end {red} {green} {blue}")
        if (red, green, blue) == (0, 0, 255):
            return [CaptionError("refused", "blue is not described", "I will not.", 100, 2)]
        if red + green + blue == 0:
            return [Caption(prompts[0], tokens_in=100, tokens_out=9)]
        text = f"An item of the colour {red} {green} {blue}."
        return [Caption(text, {"red": str(red)}, tokens_in=100, tokens_out=10, seconds=self.wait)]

    def log(self, line):
        with open(os.environ["COLOUR_LOG"], "a") as file:
            file.write(line + "\\n")
"""


def install_colour_captioner(folder: Path) -> dict[str, str]:
    """Write the captioner's package into the folder; return the environment in which a process finds it and its log."""
    (folder / "colour_captioner.py").write_text(_MODULE)
    write_distribution(folder, "colour-captioner", "colour = colour_captioner:Colour")
    search_path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": search_path, "COLOUR_LOG": str(folder / "calls.log")}


def read_calls(folder: Path, moment: str = "start") -> list[str]:
    """Return the colours of the calls that started, or of those that ended (`moment` "end"), oldest first."""
    log = folder / "calls.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.removeprefix(f"{moment} ") for line in lines if line.startswith(moment)]


def write_catalogue(folder: Path, *items: Item, **options: object) -> Settings:
    """Write photos of one colour and the tables that the commands read; return settings for them with `options`."""
    (folder / "data" / "images").mkdir(parents=True)
    for name, colour, _ in items:
        Image.new("RGB", (8, 8), colour).save(folder / "data" / "images" / f"{name}.png")
    rows = [(name, f"images/{name}.png", f"Item {name}", "things") for name, *_ in items]
    interactions = [(name,) for name, _, times in items for _ in range(times)]
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute("CREATE SCHEMA staging; CREATE SCHEMA histories")
        connection.execute("CREATE TABLE staging.items (item_id TEXT, image TEXT, title TEXT, category TEXT)")
        connection.execute("CREATE TABLE histories.user_histories (item_id TEXT, interacted_at TIMESTAMP)")
        if rows:
            connection.executemany("INSERT INTO staging.items VALUES (?, ?, ?, ?)", rows)
        if interactions:
            connection.executemany(
                "INSERT INTO histories.user_histories VALUES (?, TIMESTAMP '2025-01-01')", interactions
            )
    paths = {"data_dir": folder / "data", "warehouse": folder / "warehouse.duckdb", "cache": folder / "cache"}
    defaults = {"captioner": "colour:0", "published": folder / "published", "encoder": "hashing-64"}
    return Settings.model_validate({**defaults, **paths, **options})


@pytest.fixture
def colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the logging captioner for this process, and return the folder of its log."""
    environment = install_colour_captioner(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLOUR_LOG", environment["COLOUR_LOG"])
    return tmp_path
