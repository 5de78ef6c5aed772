"""The switch to another release: what is told is true when its answer is lost, and a rollback waits for no load."""

import socket
from collections.abc import Callable

import pytest
from helpers.faulty_proxy import Fault, proxy
from helpers.server_releases import Window
from helpers.six_items import meta
from test_opensearch_reader import labelled, publish, reading

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch import lease
from vlm4rec_search.indexes.opensearch.publish import publish_release

pytestmark = pytest.mark.usefixtures("quick_leases")


@pytest.mark.parametrize("fault", [Fault(cut="before"), Fault(cut="after"), Fault(503)], ids=["before", "after", "503"])
def test_a_switch_whose_answer_is_lost_is_asked_for_or_made_again(window: Window, fault: Fault) -> None:
    publish(window, "old")
    asked: list[bytes] = []

    def judge(number: int, body: bytes) -> Fault | None:
        asked.append(body)
        return fault if number == 0 else None

    with proxy(window.url, judge, judged="/_aliases") as url, reading(window) as reader:
        new = publish(Window(url, window.catalogue.prefix), "new").meta.name
    assert window.catalogue.live() == new
    assert len(asked) == (1 if fault.cut == "after" else 2)
    assert len(set(asked)) == 1
    reader.saw("old", "new")


def test_a_server_that_goes_away_with_the_switch_is_not_said_to_have_refused(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    publish(window, "old")
    away: list[int] = []

    def judge(_number: int, _body: bytes) -> Fault:
        away.append(503)
        return Fault(cut="after")

    made = meta()
    with (
        proxy(window.url, judge, lambda _: away[0] if away else 0, judged="/_aliases") as url,
        reading(window) as reader,
        pytest.raises(RunError, match=f"nobody knows whether {made.name} answers, which is whole and stays: .*503"),
    ):
        publish_release(Window(url, window.catalogue.prefix).catalogue, labelled("new"), made)
    assert window.catalogue.live() == made.name  # it had arrived
    reader.saw("old", "new")


def while_loading(window: Window, act: Callable[[], object], **options: bool) -> str:
    """Publish "killed", let something happen when its first document is on the way, and return its name."""

    def judge(number: int, _: bytes) -> None:
        if number == 0:
            act()

    made = meta()
    with proxy(window.url, judge) as url:
        publish_release(Window(url, window.catalogue.prefix).catalogue, labelled("killed"), made, **options)
    return made.name


def test_a_rollback_does_not_wait_for_a_load_which_then_does_not_publish(window: Window) -> None:
    old, new = (publish(window, label).meta.name for label in ("old", "new"))
    began: list[str | None] = []

    def roll_back() -> None:
        began.append(window.releases.rollback(None))
        began.append(window.catalogue.live())

    with reading(window) as reader, pytest.raises(RunError, match=f"not published: {old} was made to answer while"):
        while_loading(window, roll_back)
    assert began == [old, old]
    reader.saw("new", "old")
    *_, kept = window.releases.whole()
    assert kept not in (old, new)
    assert window.releases.rollback(kept) == kept == window.catalogue.live()  # what was loaded is not lost


def test_a_forced_publication_does_not_ask_who_has_switched(window: Window) -> None:
    for label in ("old", "new"):
        publish(window, label)
    forced = while_loading(window, lambda: window.releases.rollback(None), force=True)
    assert window.catalogue.live() == forced


def test_of_two_that_switch_one_waits_and_says_for_whom(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (publish(window, label).meta.name for label in ("old", "new"))
    monkeypatch.setattr(lease, "PATIENCE", 0.5)
    who = rf"somebody else is switching or removing releases \(process \d+ of {socket.gethostname()}\)"
    with lease.switching(window.catalogue), pytest.raises(RunError, match=who):
        window.releases.rollback(None)
    assert window.catalogue.live() == new
    assert window.releases.rollback(None) == old


def test_a_lease_whose_index_cannot_be_made_is_refused(window: Window) -> None:
    with proxy(window.url, lambda _number, _body: Fault(400), judged="vlm4rec-lease") as url:
        place = Window(url, window.catalogue.prefix)
        with pytest.raises(RunError, match="the server refuses: status 400"):
            publish(place, "new")
    assert not window.client.indices.exists(index=f"{window.catalogue.prefix}vlm4rec-lease")
