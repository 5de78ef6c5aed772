"""Photos behind URLs: fetched once from a real server, within limits of size and time."""

import shutil
import socket
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from helpers.certificate_authority import authority
from helpers.image_server import ImageServer, locate_served, photo_status, serve_images
from helpers.photo_bytes import png

from vlm4rec_search.common.cache import Failure
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.datasets.photos import fetch
from vlm4rec_search.datasets.photos.decode import read_photo


@pytest.fixture
def shop() -> Iterator[str]:
    with serve_images() as url:
        yield url


def test_a_photo_is_fetched_once_and_read_like_any_other(tmp_path: Path, shop: str) -> None:
    url = f"{shop}/good.png?size=1"
    first, same = locate_served(tmp_path, url, f" {url} ")
    assert read_photo(first).image.size == (7, 4)
    assert first == same == locate_served(tmp_path, url, limit=0)[0]
    assert ImageServer.requests == [("localhost", "/good.png")], "one request, with the name of the host"
    assert first.path is not None
    first.path.unlink()
    assert photo_status(locate_served(tmp_path, url, limit=0)[0]) == "pending"
    assert photo_status(locate_served(tmp_path, url)[0]) == "ok", "a photo that the cache lost is fetched again"


def test_a_changed_photo_under_the_same_url_is_seen_when_the_photos_of_the_cache_are_removed(
    tmp_path: Path, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, changed = f"{shop}/good.png", ("image/png", png(9))
    first, *_ = locate_served(tmp_path, url)
    monkeypatch.setitem(ImageServer.responses, "/good.png", changed)
    assert locate_served(tmp_path, url) == [first]
    assert first.path is not None
    shutil.rmtree(first.path.parents[1])
    (again,) = locate_served(tmp_path, url)
    assert (first.path.parents[1].name, read_photo(again).image.size) == ("photos", (9, 4))


@pytest.mark.parametrize("between", [", ", " ", "|", " | ", ",", "?v=1, "])
def test_a_list_of_urls_is_no_url(tmp_path: Path, shop: str, between: str) -> None:
    names = ("good1.png", "good2.png"), ("good1", "good2"), ("good1.png?v=1", "good2.png?v=2")
    files = locate_served(tmp_path, *(f"{shop}/{first}{between}{shop}/{second}" for first, second in names))
    assert {file.failure for file in files} == {
        Failure("missing", "it looks like a list of images: write one image for each item")
    }
    assert ImageServer.requests == []


@pytest.mark.parametrize(
    "image",
    ["good,https://other.example/a.png", "good/f.auto,https://other.example/a.png", "good.png?from={shop}/a.png"],
)
def test_a_url_may_hold_another_one(tmp_path: Path, shop: str, image: str) -> None:
    (file,) = locate_served(tmp_path, f"{shop}/{image.format(shop=shop)}")
    assert photo_status(file) == "ok"


def test_certificates_of_the_environment_count_for_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, context = authority(tmp_path, "own")
    with ThreadingHTTPServer(("127.0.0.1", 0), ImageServer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}/good.png"
        assert "CERTIFICATE_VERIFY_FAILED" in locate_served(tmp_path, url)[0].failure.message
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        assert photo_status(locate_served(tmp_path, url)[0]) == "ok"
        server.shutdown()


def test_the_limit_of_fetches_holds_and_failures_are_remembered(tmp_path: Path, shop: str) -> None:
    urls = [f"{shop}/{name}.png" for name in ("good1", "absent", "good2")]
    assert [photo_status(file) for file in locate_served(tmp_path, *urls, limit=2)] == ["ok", "unreachable", "pending"]
    again = locate_served(tmp_path, *urls, retry_failed=False)
    assert [photo_status(file) for file in again] == ["ok", "unreachable", "ok"]
    assert sorted(path for _, path in ImageServer.requests) == ["/absent.png", "/good1.png", "/good2.png"]
    assert again[1].failure.message == "the server answers 404"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/absent.png", "unreachable"),
        ("/loop", "unreachable"),
        ("/html.jpg", "wrong_type"),
        ("/drawing.svg", "wrong_type"),
        ("/zipped.png", "wrong_type"),
        ("/big.png", "too_large"),
        ("/hang.png", "unreachable"),
        ("/drip.png", "unreachable"),
        ("/crawl.png", "unreachable"),
        ("/to//good.png", "ok"),
        ("/to/ftp://shop.example/a.png", "blocked"),
        ("/to/http://169.254.169.254/latest/meta-data", "blocked"),
    ],
)
def test_limits_hold(tmp_path: Path, shop: str, monkeypatch: pytest.MonkeyPatch, path: str, expected: str) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 4000)
    start = time.monotonic()
    if path in ("/hang.png", "/drip.png", "/crawl.png"):
        monkeypatch.setattr(fetch, "STEP_SECONDS", 0.4)
        monkeypatch.setattr(fetch, "SECONDS", 0.6)
    assert photo_status(locate_served(tmp_path, shop + path)[0]) == expected
    assert len(ImageServer.requests) <= 1 + fetch.REDIRECTS
    assert time.monotonic() - start < 30, "no server can delay a photo without end"


@pytest.mark.parametrize(
    "url", ["ftp://shop.example/a.jpg", "http://user:secret@localhost/a.jpg", "file:///etc/passwd"]
)
def test_other_schemes_and_user_names_are_blocked(tmp_path: Path, url: str) -> None:
    (file,) = locate_served(tmp_path, url)
    assert photo_status(file) == "blocked"
    assert "secret" not in str(file.failure)


@pytest.mark.parametrize("url", ["http://", "http://nowhere.invalid/a.jpg", "http://[::zz]/a.jpg", "http://a b/c.jpg"])
def test_urls_that_lead_nowhere_have_a_status(tmp_path: Path, url: str) -> None:
    assert photo_status(locate_served(tmp_path, url)[0]) in ("unreachable", "blocked")


def test_a_host_that_does_not_answer_is_left_alone(tmp_path: Path, shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    follow = fetch._follow

    def count(client: httpx.Client, target: httpx.URL, allow_private: bool) -> bytes:
        asked.append(target.host)
        return follow(client, target, allow_private)

    monkeypatch.setattr(fetch, "_follow", count)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}"
        urls = [f"{dead}/{n}.png" for n in range(200)]
        absent = [f"{shop}/absent{n}.png" for n in range(100)]
        found = locate_served(tmp_path, *urls, *absent, f"{shop}/good.png")
    assert [photo_status(file) for file in found] == ["unreachable"] * 300 + ["ok"]
    most = fetch.MOST_UNANSWERED + fetch.IN_FLIGHT
    assert fetch.MOST_UNANSWERED <= asked.count("127.0.0.1") <= most, "those in flight are finished"
    assert asked.count("localhost") == 101, "a host that answers is asked for every photo"
    reasons = [file.failure.message for file in found[:200] if file.failure]
    assert sum("did not answer 40 requests in a row" in reason for reason in reasons) >= 200 - most


def test_a_cache_that_cannot_store_photos_is_one_clear_line(tmp_path: Path, shop: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "photos").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot be stored in .*photos.*: make room there, or set VLM4REC_CACHE"):
        locate_served(tmp_path, f"{shop}/good.png")


def test_the_pauses_of_a_busy_server_are_kept(tmp_path: Path, shop: str) -> None:
    ImageServer.busy["/good1.png"] = [(429, "0.1"), (503, "0.1")]
    ImageServer.busy["/good2.png"] = [(429, "Wed, 21 Oct 2015 07:28:00 GMT")]
    ImageServer.busy["/good3.png"] = [(429, "3600")]
    ImageServer.busy["/good4.png"] = [(503, "0.1")] * fetch.ATTEMPTS
    start = time.monotonic()
    files = locate_served(tmp_path, *(f"{shop}/good{number}.png" for number in range(1, 5)))
    assert time.monotonic() - start > 1.0, "a date that has passed is no pause: the usual one is made"
    assert [photo_status(file) for file in files] == ["ok", "ok", "unreachable", "unreachable"]
    assert files[2].failure.message == "the server answers 429 and asks for a pause of 3600 seconds"
    assert files[3].failure.message == "the server answers 503, 4 times: try again later"
    paths = [path for _, path in ImageServer.requests]
    assert [paths.count(f"/good{number}.png") for number in range(1, 5)] == [3, 2, 1, 4]
    assert photo_status(locate_served(tmp_path, f"{shop}/good4.png", retry_failed=True)[0]) == "ok"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "image/jpeg", "application/octet-stream", ""])
def test_a_page_in_the_place_of_a_photo_is_told(tmp_path: Path, shop: str, kind: str) -> None:
    page = b"\n<!DOCTYPE html><html><head><title>Hotlinking\n is forbidden</title></head></html>"
    ImageServer.responses["/a.jpg"] = (kind, page)
    (file,) = locate_served(tmp_path, f"{shop}/a.jpg")
    assert photo_status(file) == "wrong_type"
    assert file.failure.message.startswith(
        'the server answers with a page with the title "Hotlinking is forbidden" instead of a photo: it may forbid'
    )


def test_the_forms_that_can_be_read_are_asked_for_first(tmp_path: Path, shop: str) -> None:
    locate_served(tmp_path, f"{shop}/good.png")
    (accepted,) = ImageServer.accepted
    assert accepted.startswith("image/jpeg, image/png, image/webp")
    assert accepted.endswith("*/*;q=0.1"), "a server that knows no other form answers all the same"
