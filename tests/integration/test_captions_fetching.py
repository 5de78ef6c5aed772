"""Photos behind URLs are fetched while earlier ones are captioned."""

import random
import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import duckdb
import pytest
from helpers.caption_server import Reply, answer, serving
from helpers.colour_catalogue import write_catalogue
from helpers.image_server import ImageServer, serve_images
from helpers.photo_bytes import png
from helpers.workspace import Workspace

from vlm4rec_search.captioning.run import preview_captions, run_captions
from vlm4rec_search.common.cache import FILE, Cache
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.fetch import IN_FLIGHT

ITEMS = 200


def write_remote(folder: Path, shop: str, server: str, **options: object) -> Settings:
    """Write a catalogue whose photos are behind URLs, each with a width of its own."""
    given = {"captioner": "openai:llava", "openai_url": server, "allow_private_addresses": True}
    settings = write_catalogue(folder, **{**given, "caption_canary": "off", **options})
    rows = [(f"i{at:03}", f"{shop}/{at:03}.png", f"Item {at:03}", "things") for at in range(ITEMS)]
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.executemany("INSERT INTO staging.items VALUES (?, ?, ?, ?)", rows)
    ImageServer.responses |= {f"/{at:03}.png": ("image/png", png(100 + at)) for at in range(ITEMS)}
    return settings


def count_results(cache: Path, kind: str) -> int:
    """Return the number of results of a kind in the cache."""
    try:
        with sqlite3.connect(f"file:{cache / FILE}?mode=ro", uri=True, timeout=30) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM results WHERE kind = ?", [kind]).fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not created yet


def test_captioning_begins_before_the_last_photo_is_fetched(tmp_path: Path) -> None:
    begun = Event()

    def describe(title: str, earlier: int) -> Reply:
        begun.set()
        return answer(f"A red mug, {title}.")

    with serving(describe) as server, serve_images() as shop:
        settings = write_remote(tmp_path, shop, server.url)
        ImageServer.awaited[f"/{ITEMS - 1}.png"] = begun
        ImageServer.responses["/003.png"] = ("text/html", b"<html>")
        summary = run_captions(settings)
        assert summary.statuses == {"ok": ITEMS - 1, "wrong_type": 1}
        assert (summary.computed, summary.failed) == (ITEMS - 1, 0)
        assert len(ImageServer.requests) == ITEMS
        assert len(server.calls) == ITEMS - 1
        assert run_captions(settings).computed == 0
        assert len(ImageServer.requests) == ITEMS
    with Cache(settings.cache) as cache:
        rows = [(row.kind, row.computed, row.failed, row.finished) for row in cache.ledger()]
    assert sorted(rows) == [("caption", ITEMS - 1, 0, True), ("photo", ITEMS - 1, 1, True)], "a run is one row"


def test_a_spending_cap_ends_the_fetching_too(tmp_path: Path) -> None:
    with serving(lambda title, earlier: answer("A red mug.")) as server, serve_images() as shop:
        settings = write_remote(tmp_path, shop, server.url, price_in=10, price_out=100, openai_workers=2)
        summary = run_captions(
            settings, max_cost=0.0305
        )  # the first call is taken to cost 0.027, then each costs 0.001
        assert (summary.computed, summary.left) == (30, ITEMS - 30)
        assert not [path for _, path in ImageServer.requests if path >= "/192"], (
            "no group is fetched after the next one"
        )


def test_a_preview_that_the_cap_ends_shows_what_it_has_paid(tmp_path: Path) -> None:
    with serving(lambda title, earlier: answer("A red mug.")) as server, serve_images() as shop:
        settings = write_remote(tmp_path, shop, server.url, price_in=10, price_out=100, caption_max_cost=0.0305)
        previews = preview_captions(settings, 100)
    assert [preview.status for preview in previews] == ["ok"] * len(server.calls) + ["pending"] * 70


@pytest.mark.long
def test_kills_lose_no_more_than_the_calls_and_fetches_in_flight(workspace: Workspace) -> None:
    folder, cache, draw = workspace.folder, workspace.folder / ".cache" / "vlm4rec", random.Random(7)
    with serving(lambda title, earlier: replace(answer("A red mug."), delay=0.03)) as server, serve_images() as shop:
        own = {"CAPTIONER": "openai:llava", "OPENAI_URL": server.url, "OPENAI_WORKERS": "4", "CAPTION_CANARY": "off"}
        workspace.settings |= {f"VLM4REC_{name}": value for name, value in own.items()}
        workspace.settings["VLM4REC_ALLOW_PRIVATE_ADDRESSES"] = "true"
        write_remote(folder, shop, server.url)
        for kill in range(1, 5):
            wanted = len(server.calls) + draw.randint(10, 30)
            running = workspace.start("vlm4rec", "captions", "run")
            while len(server.calls) < wanted and running.poll() is None:
                time.sleep(0.001)
            running.send_signal(signal.SIGKILL)
            running.communicate()
            assert running.returncode == -signal.SIGKILL, "the process was killed during its work"
            assert len(server.calls) - count_results(cache, "caption") <= kill * 4
            assert len(ImageServer.requests) - count_results(cache, "photo") <= kill * IN_FLIGHT
        lost = len(server.calls) - count_results(cache, "caption")
        assert workspace.json("captions", "run")["statuses"] == {"ok": ITEMS}
        assert len(server.calls) == ITEMS + lost, "no finished call is repeated"
