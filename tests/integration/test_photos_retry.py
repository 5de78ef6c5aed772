"""A retry of photos behind URLs fetches bad photos again and captions only those that are good now."""

from collections import Counter
from pathlib import Path

import duckdb
from helpers.colour_catalogue import read_calls, write_catalogue
from helpers.image_server import ImageServer, serve_images
from helpers.photo_bytes import png

from vlm4rec_search.captioning.run import run_captions


def test_a_retry_fetches_replaced_photos_and_newly_allowed_addresses(colour: Path) -> None:
    with serve_images() as url:
        closed = write_catalogue(colour, *[(name, (0, 0, 0), 0) for name in ("html", "cut", "gone", "fine")])
        with duckdb.connect(str(closed.warehouse)) as connection:
            connection.execute("UPDATE staging.items SET image = ? || '/' || item_id || '.png'", [url])
        assert run_captions(closed).statuses == {"blocked": 4}
        assert run_captions(closed, retry=("blocked",)).statuses == {"blocked": 4}
        assert ImageServer.requests == []

        options = closed.model_copy(update={"allow_private_addresses": True})
        ImageServer.responses["/html.png"] = ("text/html", b"<html>")
        ImageServer.responses["/cut.png"] = ("image/png", png(99)[:60])
        ImageServer.responses["/fine.png"] = ("image/png", png(5))
        bad = {"wrong_type": 1, "unreadable": 1, "unreachable": 1, "ok": 1}
        assert run_captions(options, retry=("blocked",)).statuses == bad
        assert read_calls(colour) == ["255 0 0"]
        requests = len(ImageServer.requests)
        assert run_captions(options).statuses == bad
        assert len(ImageServer.requests) == requests, "a run does not fetch bad photos again"

        for name, width in (("html", 6), ("gone", 7)):
            ImageServer.responses[f"/{name}.png"] = ("image/png", png(width))
        retried = run_captions(options, retry=("wrong_type", "unreadable", "unreachable"))
        assert retried.statuses == {"ok": 3, "unreadable": 1}
        assert (retried.computed, retried.failed, retried.tokens_in) == (2, 1, 200), "decoding costs no tokens"
        ImageServer.responses["/cut.png"] = ("image/png", png(9))
        assert run_captions(options, retry=("unreadable",)).statuses == {"ok": 4}
        assert Counter(read_calls(colour)) == {"255 0 0": 4}
        assert ImageServer.requests.count(("localhost", "/fine.png")) == 1
