"""Eight captioning servers, some of which fail: all of them stay busy, and nothing is lost or paid twice."""

from pathlib import Path

import pytest
from helpers.caption_server import answer, refusal, serving
from helpers.colour_catalogue import write_catalogue

from benchmarks.caption_servers import Stub, serving_fleet
from vlm4rec_search.captioning.captioners.openai import client, fleet
from vlm4rec_search.captioning.run import look_up_captions, run_captions
from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings

ITEMS = 600
CALL, SLOTS = 0.1, 2
FLEET = [
    *[Stub(CALL, SLOTS) for _ in range(4)],
    Stub(CALL, SLOTS, faulty_every=10),
    Stub(CALL * 5, SLOTS),
    Stub(CALL, SLOTS, dies_at=20),
    Stub(CALL, SLOTS, busy_at=10, busy_for=1.0),
]


def write_settings(folder: Path, urls: str, items: int, **options: object) -> Settings:
    colours = [(number % 256, number // 256, 90) for number in range(items)]
    rows = [(f"i{number}", colour, 0) for number, colour in enumerate(colours)]
    given = {"captioner": "openai:llava", "openai_url": urls, "openai_workers": SLOTS, "caption_canary": "off"}
    return write_catalogue(folder, *rows, **{**given, **options})


def test_a_fleet_with_failures_stays_busy_loses_nothing_and_pays_once(tmp_path: Path) -> None:
    with serving_fleet(*FLEET) as servers:
        summary = run_captions(write_settings(tmp_path, servers.setting, ITEMS))
        answers, shares, logs = servers.answers(), servers.busy_shares(), servers.logs()
    assert (summary.computed, summary.failed, summary.statuses) == (ITEMS, 0, {"ok": ITEMS})
    assert answers == {f"Item i{number}": 1 for number in range(ITEMS)}
    calls = [len(log.calls) for log in logs]
    assert calls[5] < min(calls[:5]), "a slow server gets less"
    assert calls[6] < 20
    assert calls[7] > 20, "a server that was busy for a while gets requests again"
    assert shares[-1] > 0.5, shares  # benchmarks/captions.py has the figure of an idle machine


def test_servers_that_are_always_busy_use_up_the_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 1.0)
    pausing = {"retry_after": "1"}
    with serving(lambda *_: refusal(429, "daily limit", **pausing)) as one, serving(lambda *_: refusal(429, "")) as two:
        settings = write_settings(tmp_path, f"{one.url},{two.url}", 1)
        assert run_captions(settings).statuses == {"failed": 1}


def test_a_server_that_asks_for_a_long_pause_leaves_its_requests_to_another(tmp_path: Path) -> None:
    with (
        serving(lambda *_: refusal(429, "hourly limit", retry_after="3600")) as busy,
        serving(lambda *_: answer("A red coat of wool.")) as good,
    ):
        settings = write_settings(tmp_path, f"{busy.url},{good.url}", 4)
        assert run_captions(settings).statuses == {"ok": 4}
        busy_alone = write_settings(tmp_path / "alone", busy.url, 4)
        with pytest.raises(RunError, match="asks for a pause of 3600 s"):
            run_captions(busy_alone)


def test_a_fleet_that_cannot_be_reached_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "PATIENT_RESTS", 3)
    with serving_fleet(Stub(dies_at=3), Stub(dies_at=3), Stub()) as servers:
        dead = ",".join(servers.urls[:2])
        with pytest.raises(RunError, match=r"127.0.0.1:\d+, http://127.0.0.1:\d+ cannot be reached"):
            run_captions(settings := write_settings(tmp_path, dead, 20))
        answered = len(servers.answers())
    with Cache(settings.cache) as cache:
        assert look_up_captions(settings, cache).count_statuses() == {"pending": 20 - answered, "ok": answered}
    with pytest.raises(UsageError, match="names a server twice"):
        run_captions(write_settings(tmp_path / "again", "http://a/v1, http://a/v1", 1))
