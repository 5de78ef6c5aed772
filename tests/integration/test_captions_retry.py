"""Retries: which items come first, what is not paid twice, and what a retry without success says."""

from collections import Counter
from pathlib import Path
from threading import Event

import duckdb
import pytest
from helpers.caption_server import Reply, answer, refusal, serving
from helpers.colour_catalogue import write_catalogue
from helpers.image_server import ImageServer, png, serve_images
from helpers.waiting import wait_until

from vlm4rec_search.captioning.run import RETRYABLE, run_captions
from vlm4rec_search.cli.captions import print_run
from vlm4rec_search.common.concurrency import start_in_thread
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.decode import MAX_BYTES

GERMAN = "Eine rote Tasse und ein blauer Teller auf dem Tisch, die sehr schön sind."


def write_shop(folder: Path, url: str, number: int, **options: object) -> Settings:
    """Write a catalogue of `number` items i00, i01 and so on, captioned by the server at this URL."""
    given = {"captioner": "openai:llava", "openai_url": url, "caption_canary": "off", "allow_private_addresses": True}
    return write_catalogue(folder, *[(f"i{at:02}", (10 + at, 0, 0), 0) for at in range(number)], **given, **options)


def set_image(settings: Settings, item: str, image: str) -> None:
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute("UPDATE staging.items SET image = ? WHERE item_id = ?", [image, item])


def test_a_limited_retry_takes_those_that_wait_longest(tmp_path: Path) -> None:
    """Of two unusable answers, two failed calls, two dead URLs and a file that is too large, none blocks the others."""

    def behave(title: str, earlier: int) -> Reply:
        return answer(GERMAN) if title in ("Item i00", "Item i01") else refusal(400, "busy")

    with serving(behave) as server, serve_images() as shop:
        settings = write_shop(tmp_path, server.url, 7)
        for item in ("i04", "i05"):
            set_image(settings, item, f"{shop}/gone-{item}.png")
        with (settings.data_dir / "images" / "i06.png").open("r+b") as file:
            file.truncate(MAX_BYTES + 1)
        assert run_captions(settings).statuses == {"wrong_language": 2, "failed": 2, "unreachable": 2, "too_large": 1}
        for _ in range(2):
            server.calls.clear()
            ImageServer.requests.clear()
            asked = []
            for _ in range(7):
                run_captions(settings, retry=RETRYABLE, limit=1)
                asked.append(len(server.calls) + len(ImageServer.requests))
            assert sorted(title for _, title in server.calls) == [f"Item i0{at}" for at in range(4)]
            assert sorted(path for _, path in ImageServer.requests) == ["/gone-i04.png", "/gone-i05.png"]
            assert asked == [1, 2, 3, 4, 5, 6, 6], "by priority; the file is read without a request"


def test_a_retry_without_success_names_the_reasons_and_ends_with_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    down = False

    def behave(title: str, earlier: int) -> Reply:
        return refusal(400, "overloaded" if title != "Item i00" else "too hot") if down else answer(GERMAN)

    with serving(behave) as server:
        settings = write_shop(tmp_path, server.url, 3)
        assert run_captions(settings).errors == {}
        down = True
        summary = run_captions(settings, retry=("wrong_language",))
    assert (summary.computed, summary.failed, summary.statuses) == (0, 3, {"wrong_language": 3})
    assert summary.errors == {"failed: 400: overloaded": 2, "failed: 400: too hot": 1}
    with pytest.raises(RunError, match="this run produced failures only: 400: overloaded"):
        print_run(summary, as_json=False)
    assert "  2 failed: 400: overloaded\n  1 failed: 400: too hot\n" in capsys.readouterr().out


def test_a_retry_repeats_no_answer_that_another_retry_has_replaced(tmp_path: Path) -> None:
    good, fetched = False, Event()

    def behave(title: str, earlier: int) -> Reply:
        return answer(f"A red mug, {title}.") if good else answer(GERMAN)

    with serving(behave) as server, serve_images() as shop:
        settings = write_shop(tmp_path, server.url, 70)
        set_image(settings, "i69", f"{shop}/late.png")
        assert run_captions(settings).statuses == {"wrong_language": 69, "unreachable": 1}
        server.calls.clear()
        good = True
        ImageServer.responses["/late.png"] = ("image/png", png(50))
        ImageServer.awaited["/late.png"] = fetched
        slow = start_in_thread(lambda: run_captions(settings, retry=("wrong_language", "unreachable")))
        wait_until(lambda: len(server.calls) >= 64)  # the second group waits for its photo
        other = run_captions(settings, retry=("wrong_language",))
        fetched.set()
        assert slow.result(60).statuses == {"ok": 70}
    assert other.computed == 5
    assert Counter(Counter(title for _, title in server.calls).values()) == {1: 70}
