"""A small catalogue of one-colour photos with the tables that `vlm4rec captions` reads, and a captioner that logs.

The captioner is a package of its own, found by its entry point. `colour:<milliseconds>` names the mean colour of a
photo after so long, in four threads. The log gets a line when a call starts and one when it ends. Pure blue is
refused; of a black photo it says what the prompt says.
"""

from pathlib import Path

import duckdb
import pytest
from PIL import Image

from vlm4rec_search.common.settings import Settings

WORKERS = 4
Item = tuple[str, tuple[int, int, int], int]

_MODULE = """
import os, time
from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError

class Colour(Captioner):
    id, prompt, batch_size, workers = "colour@1", "told-1", 1, 4

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


def install(folder: Path) -> dict[str, str]:
    """Write the captioner's package into the folder; return the environment in which a process finds it and its log."""
    (folder / "colour_captioner.py").write_text(_MODULE)
    about = folder / "colour_captioner-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: colour-captioner\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vlm4rec_search.captioners]\ncolour = colour_captioner:Colour\n")
    return {"PYTHONPATH": str(folder), "COLOUR_LOG": str(folder / "calls.log")}


def calls(folder: Path, moment: str = "start") -> list[str]:
    """Return the colours of the calls that started, or ended, oldest first."""
    log = folder / "calls.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.removeprefix(f"{moment} ") for line in lines if line.startswith(moment)]


def catalogue(folder: Path, *items: Item, **options: object) -> Settings:
    """Write photos of one colour and the tables that the commands read; the number is that of interactions."""
    (folder / "data" / "images").mkdir(parents=True)
    for name, colour, _ in items:
        Image.new("RGB", (8, 8), colour).save(folder / "data" / "images" / f"{name}.png")
    rows = [(name, f"images/{name}.png", f"Item {name}", "things") for name, *_ in items]
    taken = [(name,) for name, _, times in items for _ in range(times)]
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute("CREATE SCHEMA staging; CREATE SCHEMA histories")
        connection.execute("CREATE TABLE staging.items (item_id TEXT, image TEXT, title TEXT, category TEXT)")
        connection.execute("CREATE TABLE histories.user_histories (item_id TEXT, interacted_at TIMESTAMP)")
        connection.executemany("INSERT INTO staging.items VALUES (?, ?, ?, ?)", rows)
        if taken:
            connection.executemany("INSERT INTO histories.user_histories VALUES (?, TIMESTAMP '2025-01-01')", taken)
    places = {"data_dir": folder / "data", "warehouse": folder / "warehouse.duckdb", "cache": folder / "cache"}
    given = {"captioner": "colour:0", "published": folder / "published", "encoder": "hashing-64", **places, **options}
    return Settings.model_validate(given)


@pytest.fixture
def colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the logging captioner, which this process finds."""
    environment = install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLOUR_LOG", environment["COLOUR_LOG"])
    return tmp_path
