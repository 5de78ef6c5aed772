"""Activating a release: the outcome is reported correctly when an answer is lost, and a rollback waits for no load."""

import socket
from collections.abc import Callable

import pytest
from helpers.alias_reader import labelled_tables, publish_labelled, reading
from helpers.faulty_proxy import Fault, proxy
from helpers.server_releases import Window
from helpers.six_items import meta

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch import aliases
from vlm4rec_search.indexes.opensearch.publish import publish_release

pytestmark = pytest.mark.usefixtures("quick_leases")


@pytest.mark.parametrize("fault", [Fault(cut="before"), Fault(cut="after"), Fault(503)], ids=["before", "after", "503"])
def test_an_activation_whose_answer_is_lost_is_checked_and_repeated_if_needed(window: Window, fault: Fault) -> None:
    publish_labelled(window, "old")
    requests: list[bytes] = []

    def judge(number: int, body: bytes) -> Fault | None:
        requests.append(body)
        return fault if number == 0 else None

    with proxy(window.url, judge, judged="/_aliases") as url, reading(window) as reader:
        new = publish_labelled(Window(url, window.catalogue.prefix), "new").meta.name
    assert window.catalogue.live() == new
    assert len(requests) == (1 if fault.cut == "after" else 2)
    assert len(set(requests)) == 1
    reader.assert_saw("old", "new")


def test_a_server_that_goes_away_during_an_activation_leaves_the_outcome_unknown(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliases, "PATIENCE", 1.0)
    publish_labelled(window, "old")
    away: list[int] = []

    def judge(_number: int, _body: bytes) -> Fault:
        away.append(503)
        return Fault(cut="after")

    made = meta()
    with (
        proxy(window.url, judge, lambda _: away[0] if away else 0, judged="/_aliases") as url,
        reading(window) as reader,
        pytest.raises(RunError, match=f"it is unknown whether {made.name} is live; it is complete and is kept: .*503"),
    ):
        publish_release(Window(url, window.catalogue.prefix).catalogue, labelled_tables("new"), made)
    assert window.catalogue.live() == made.name  # the request had arrived
    reader.assert_saw("old", "new")


def while_loading(window: Window, act: Callable[[], object], **options: bool) -> str:
    """Publish "killed", call `act` when its first document is sent, and return the name of the release."""

    def judge(number: int, _: bytes) -> None:
        if number == 0:
            act()

    made = meta()
    with proxy(window.url, judge) as url:
        publish_release(Window(url, window.catalogue.prefix).catalogue, labelled_tables("killed"), made, **options)
    return made.name


def test_a_rollback_does_not_wait_for_a_load_and_the_load_does_not_publish_afterwards(window: Window) -> None:
    old, new = (publish_labelled(window, label).meta.name for label in ("old", "new"))
    live_names: list[str | None] = []

    def roll_back() -> None:
        live_names.append(window.releases.rollback(None))
        live_names.append(window.catalogue.live())

    with reading(window) as reader, pytest.raises(RunError, match=f"not published: {old} was activated while"):
        while_loading(window, roll_back)
    assert live_names == [old, old]
    reader.assert_saw("new", "old")
    *_, loaded = window.releases.list()
    assert loaded not in (old, new)
    assert window.releases.rollback(loaded) == loaded == window.catalogue.live()


def test_a_forced_publication_replaces_a_release_that_was_activated_meanwhile(window: Window) -> None:
    for label in ("old", "new"):
        publish_labelled(window, label)
    forced = while_loading(window, lambda: window.releases.rollback(None), force=True)
    assert window.catalogue.live() == forced


def test_an_activation_waits_for_another_one_and_names_its_process(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (publish_labelled(window, label).meta.name for label in ("old", "new"))
    monkeypatch.setattr(aliases, "PATIENCE", 0.5)
    holder = rf"another process is activating or removing releases \(process \d+ of {socket.gethostname()}\)"
    with aliases.activating(window.catalogue), pytest.raises(RunError, match=holder):
        window.releases.rollback(None)
    assert window.catalogue.live() == new
    assert window.releases.rollback(None) == old


def test_old_releases_are_removed_and_activated_on_a_full_disk(window: Window) -> None:
    first, second, third = (publish_labelled(window, label).meta.name for label in ("old", "new", "killed"))
    full = {"index.blocks.read_only_allow_delete": True}  # as a server does that has no room left
    indices, everything = window.client.indices, f"{window.catalogue.prefix}*"
    every_state = {"expand_wildcards": "all"}  # the index of the leases is hidden
    indices.put_settings(index=everything, body=full, params=every_state)
    assert window.releases.prune(1) == [first]
    indices.put_settings(index=everything, body=full, params=every_state)
    assert window.releases.rollback(None) == second == window.catalogue.live()
    settings = indices.get_settings(index=window.catalogue.index("items", third), flat_settings=True)
    assert [each["settings"]["index.blocks.read_only_allow_delete"] for each in settings.values()] == ["true"]
    assert window.publish().meta.name == window.catalogue.live()  # where the server takes the new documents


def test_a_server_that_does_not_create_the_index_of_the_leases_is_reported(window: Window) -> None:
    with proxy(window.url, lambda _number, _body: Fault(400), judged="vlm4rec-lease") as url:
        refused = Window(url, window.catalogue.prefix)
        with pytest.raises(RunError, match="the server refuses: status 400"):
            publish_labelled(refused, "new")
    assert not window.client.indices.exists(index=f"{window.catalogue.prefix}vlm4rec-lease")
