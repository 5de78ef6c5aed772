"""The example of a service in a few lines: what it answers, and what it says of errors."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest
from helpers.six_items import publish
from helpers.workspace import ROOT


@pytest.fixture
def service(tmp_path: Path) -> Iterator[httpx.Client]:
    publish(tmp_path)
    server = runpy.run_path(str(ROOT / "examples" / "service.py"))["serve"](str(tmp_path), 0)
    Thread(target=server.serve_forever, daemon=True).start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
        yield client
    server.shutdown()
    server.server_close()


def test_a_shopper_gets_hits_and_an_error_its_sentence(service: httpx.Client) -> None:
    answers = [service.get(path).json() for path in ("/u1", "/%75%31", "/u1?of=today")]
    assert [(answer["user"], answer["tier"], len(answer["hits"])) for answer in answers] == [("u1", "profile", 4)] * 3
    refused = service.get("/")
    assert (refused.status_code, refused.json()) == (400, {"error": "the user id is empty"})


def test_a_release_that_cannot_be_read_is_a_503(tmp_path: Path, service: httpx.Client) -> None:
    (path,) = (tmp_path / "releases").iterdir()
    with path.open("r+b") as file:  # a damaged disk: the service has the file open
        file.seek(12_288)
        file.write(bytes(path.stat().st_size - 12_288))
    failed = service.get("/u1")
    assert (failed.status_code, [*failed.json()]) == (503, ["error"])
    assert "cannot read the release" in failed.json()["error"]
