"""No document is lost when the server, the network, the disk or the loader itself fails during a load."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from helpers.faulty_proxy import Fault, Judge, proxy
from helpers.loading_index import LoadingIndex, item, loading_index

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.bulk import Operation, Rejection
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.loader import load, loading
from vlm4rec_search.indexes.release import Load

ITEMS = 400

# a loader that hangs after half of its documents
LOADER = f"""
import sys
from helpers.loading_index import item
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.loader import loading
from vlm4rec_search.indexes.opensearch.loader import load
from vlm4rec_search.common.settings import Settings

def operations():
    for number in range({ITEMS}):
        if number == {ITEMS} // 2:
            print("half", flush=True)
            sys.stdin.read()
        yield item(number)

client = connect(sys.argv[1], Settings())
with loading(client, sys.argv[2]):
    load(client, sys.argv[2], operations(), {ITEMS}, print, chunk_bytes=2_000)
"""


@pytest.fixture
def index(opensearch_url: str) -> Iterator[LoadingIndex]:
    with loading_index(opensearch_url, refresh_interval="7s") as own:
        yield own


def load_through(own: LoadingIndex, judge: Judge, timeout: float = 60.0, connections: int = 4) -> Load:
    """Load through a proxy that interferes, and check that every document arrives and none is rejected."""
    rejected: list[Rejection] = []
    options = {"chunk_bytes": 8_000, "connections": connections}
    with proxy(own.url, judge) as url, loading(own.client, own.name):
        client = connect(url, Settings(), timeout)
        loaded = load(client, own.name, map(item, range(ITEMS)), ITEMS, rejected.append, **options)
    assert own.titles() == {f"i{number:05d}": f"shoe {number}" for number in range(ITEMS)}
    assert (loaded.indexed, rejected) == (ITEMS, [])
    return loaded


def test_requests_that_are_refused_in_turn_are_repeated(index: LoadingIndex) -> None:
    refusals = [Fault(429, (("retry-after", "0"),)), Fault(502), Fault(503), Fault(504)]
    sent: set[int] = set()

    def judge(number: int, _: bytes) -> Fault | None:
        if number % 2:
            return None
        fault = refusals[number // 2 % len(refusals)]
        sent.add(fault.status)
        return fault

    loaded = load_through(index, judge)
    assert sent == {429, 502, 503, 504}
    assert loaded.repeated > 3


@pytest.mark.parametrize(
    "fault",
    [Fault(200), Fault(cut="before"), Fault(cut="after")],
    ids=["a-page-for-an-answer", "cut-before", "cut-after"],
)
def test_repeated_faults_lose_no_document(index: LoadingIndex, fault: Fault) -> None:
    loaded = load_through(index, lambda number, _: fault if number % 3 == 0 else None)
    assert loaded.repeated > 2


def test_a_request_that_times_out_is_repeated(index: LoadingIndex) -> None:
    assert load_through(index, lambda n, _: Fault(delay=1.5) if n == 1 else None, timeout=0.7).repeated > 0


def test_the_pause_of_retry_after_is_kept(index: LoadingIndex) -> None:
    loaded = load_through(index, lambda number, _: Fault(429, (("retry-after", "2"),)) if number == 0 else None)
    assert loaded.seconds >= 2.0


def test_too_large_requests_are_halved_and_later_ones_are_smaller(index: LoadingIndex) -> None:
    refused: list[int] = []

    def judge(_: int, body: bytes) -> Fault | None:
        refused.extend([len(body)] if len(body) > 3_000 else [])
        return Fault(413) if len(body) > 3_000 else None

    load_through(index, judge, connections=1)
    # the first chunk and its halves, but no later chunk
    assert [round(size, -3) for size in refused] == [8_000, 4_000, 4_000]


def test_a_document_too_large_for_any_request_is_rejected(index: LoadingIndex) -> None:
    operations: list[Operation] = [item(1), ("big", b'{"title":"%b"}' % (b"x" * 5_000)), item(2)]
    rejected: list[Rejection] = []
    with (
        proxy(index.url, lambda _, body: Fault(413) if len(body) > 3_000 else None) as url,
        loading(index.client, index.name),
    ):
        load(connect(url, Settings()), index.name, operations, 3, rejected.append)
    assert rejected == [Rejection("big", 413, "status 413")]
    assert set(index.titles()) == {"i00001", "i00002"}


def test_one_bad_document_in_ten_thousand_is_rejected_with_the_reason(index: LoadingIndex) -> None:
    bad = 7_777
    operations = (item(n) if n != bad else ("bad", b'{"price":"cheap"}') for n in range(10_000))
    rejected: list[Rejection] = []
    with loading(index.client, index.name):
        loaded = load(index.client, index.name, operations, 10_000, rejected.append)
    assert (loaded.indexed, loaded.rejected) == (9_999, 1)
    assert index.client.count(index=index.name)["count"] == 9_999
    assert [rejection.id for rejection in rejected] == ["bad"]
    assert "failed to parse field [price] of type [double]" in rejected[0].reason


def test_a_full_disk_ends_the_load_in_one_line_and_the_settings_are_restored(index: LoadingIndex) -> None:
    blocked = {"index.blocks.read_only_allow_delete": True}

    def operations() -> Iterator[Operation]:
        for number in range(ITEMS):
            if number == ITEMS // 2:
                index.client.indices.put_settings(index=index.name, body=blocked)
            yield item(number)

    message = r"takes no documents: 429, .*disk usage.* Free disk space"
    with pytest.raises(RunError, match=message) as caught, loading(index.client, index.name):
        load(index.client, index.name, operations(), ITEMS, print, chunk_bytes=2_000, patience=2.0)
    assert "\n" not in str(caught.value)
    assert (index.settings()["refresh_interval"], index.settings()["number_of_replicas"]) == ("7s", "0")
    assert index.settings()["blocks.read_only_allow_delete"] == "true"
    index.client.indices.put_settings(index=index.name, body={"index.blocks.read_only_allow_delete": None})
    load_through(index, lambda _number, _body: None)


def test_an_index_deleted_during_the_load_is_not_created_again(index: LoadingIndex) -> None:
    def judge(number: int, _: bytes) -> None:
        if number == 2:
            index.client.indices.delete(index=index.name)

    gone = rf"cannot load {index.name}: index_not_found_exception"
    with proxy(index.url, judge) as url, pytest.raises(RunError, match=gone), loading(index.client, index.name):
        load(connect(url, Settings()), index.name, map(item, range(ITEMS)), ITEMS, print, chunk_bytes=2_000)
    assert index.client.cat.indices(index=f"{index.name}*", format="json") == []


def test_a_server_that_stays_away_ends_the_load(index: LoadingIndex) -> None:
    with proxy(index.url, lambda number, _: Fault(503)) as url, pytest.raises(RunError, match="503"):
        load(connect(url, Settings()), index.name, [item(1)], 1, print, patience=1.0)


def test_a_load_after_two_killed_ones_is_complete_and_restores_the_settings(index: LoadingIndex) -> None:
    for _ in range(2):
        command = [sys.executable, "-c", LOADER, index.url, index.name]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdin=pipe, stdout=pipe, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
        process.communicate()
        assert index.settings()["refresh_interval"] == "-1"
    load_through(index, lambda _number, _body: None)
    assert index.settings()["refresh_interval"] == "7s"
    assert index.meta() == {"encoder": "hashing-4@1"}
