"""Searches over a server that is slow, busy or away: whole answers where it can be, and marked ones where it cannot."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.alias_reader import (
    QUERY,
    DegradedError,
    expected_hits,
    labelled_hits,
    labelled_tables,
    publish_labelled,
    search_hits,
)
from helpers.faulty_proxy import Fault, proxy
from helpers.http_service import serving
from helpers.opensearch_server import prefixed
from helpers.server_releases import Window
from helpers.six_items import ENCODER
from helpers.waiting import wait_until

from vlm4rec_search import Answer, Query, open_index
from vlm4rec_search.cli import main
from vlm4rec_search.common.settings import ExplicitSettings, settings
from vlm4rec_search.indexes import Searcher
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.reads import PARTLY
from vlm4rec_search.serve.service import Service

TOKEN = "token-of-the-test"  # noqa: S105
POPULAR = "bcaedf"  # b and c have equally many shoppers


def busy(number: int, _body: bytes = b"") -> Fault | None:
    """Refuse three of ten requests, the same ones in each run."""
    return Fault(status=503) if random.Random(number).random() < 0.3 else None


@contextmanager
def opened(
    window: Window, judge: Callable[[int, bytes], Fault | None], judged: str = "", **options: float
) -> Iterator[Searcher]:
    with (
        proxy(window.url, judge, judged=judged) as url,
        open_index(url, prefix=window.catalogue.prefix, **options) as index,  # type: ignore[arg-type]
    ):
        yield index


@contextmanager
def slow_after_opening(window: Window, **options: float) -> Iterator[Searcher]:
    """Yield an open index whose server from now on takes 8 seconds for a request."""
    slow = threading.Event()

    def judge(_number: int, _body: bytes) -> Fault | None:
        return Fault(delay=8.0) if slow.is_set() else None

    with opened(window, judge, **options) as index:
        slow.set()
        yield index


def ids(answer: Answer) -> str:
    return "".join(hit.item_id for hit in answer.hits)


@pytest.fixture(scope="module")
def old(opensearch_url: str) -> Iterator[Window]:
    """The release `old`, which the tests of the module only read."""
    with prefixed(opensearch_url) as prefix:
        window = Window(opensearch_url, prefix)
        publish_labelled(window, "old")
        yield window


def test_a_server_that_refuses_three_of_ten_requests_answers_every_search(old: Window) -> None:
    with opened(old, busy, deadline=60.0) as index, ThreadPoolExecutor(4) as threads:
        answers = set(threads.map(lambda _: search_hits(index), range(40)))
    assert answers == {(old.catalogue.live(), labelled_hits("old"))}


def test_a_slow_server_gets_no_more_time_than_the_deadline(old: Window) -> None:
    with slow_after_opening(old, deadline=0.5) as index:
        answer = index.search(Query(user="u1", k=3))
        assert (ids(answer), answer.tier, answer.release) == (POPULAR[:3], "popularity", old.catalogue.live())
        assert answer.took_ms < 4000  # of a deadline of 500, on a machine with much else to do
        assert answer.degraded is not None
        assert "within the deadline of 0.5 s" in answer.degraded or "did not answer in time" in answer.degraded
        assert answer.degraded.endswith("items that the shopper has seen may be among them")
        filtered = index.search(Query(items=["e"], exclude=["c"], filters=["price<=50"], count=["category"]))
        assert filtered.degraded is not None
        assert (ids(filtered), filtered.counts) == ("bad", {"category": {"dresses": 2, "lamps": 1}})


def test_a_server_that_is_away_is_left_alone(old: Window) -> None:
    """After ten failures a search asks no more, and the first one after the pause finds the server back."""
    away, asked = threading.Event(), []

    def judge(number: int, _body: bytes) -> Fault | None:
        asked.append(number)
        return Fault(cut="before") if away.is_set() else None

    with opened(old, judge, deadline=60.0) as index:
        away.set()
        assert index.search(QUERY).degraded is not None
        before = len(asked)
        assert "failed 10 times in a row" in (index.search(QUERY).degraded or "")
        assert len(asked) <= before + 1  # one try, if the pause was over
        away.clear()
        wait_until(lambda: index.search(QUERY).degraded is None)
        assert search_hits(index)[1] == labelled_hits("old")


def test_the_retrievers_that_are_answered_answer(old: Window) -> None:
    def judge(_number: int, body: bytes) -> Fault | None:
        return Fault(status=503) if b'"knn"' in body else None

    with opened(old, judge, "/_msearch", deadline=2.0) as index:
        answer = index.search(replace(QUERY, weights={"behaviour": 1.0}))
    assert answer.degraded is not None
    assert answer.degraded.startswith("the server did not answer in time for profile")
    assert (answer.tier, answer.hits[0].item_id, answer.note) == ("profile", "e", None)


LAMPS = Query(text="lamp", user="u1", k=5)


def test_a_text_is_answered_by_its_words_where_vectors_take_long(old: Window) -> None:
    def judge(_number: int, body: bytes) -> Fault | None:
        return Fault(delay=8.0) if b'"knn"' in body else None

    with opened(old, judge, "/_msearch", deadline=3.0) as index:
        answer = index.search(LAMPS)
        assert (ids(answer), answer.tier) == ("ed", "profile")
        assert answer.degraded == "the server did not answer in time for profile, the meaning of the text"
        only_meaning = index.search(replace(LAMPS, mode="semantic"))
        assert only_meaning.tier == "popularity"  # nothing is left of it


def test_a_text_is_answered_where_only_its_vectors_fail(old: Window) -> None:
    """The server refuses some searches of a request, because it has no memory for them."""
    sent = []

    def judge(_number: int, body: bytes) -> Fault:
        sent.append(body)
        searches = body.splitlines()[1::2]

        def refuse_vectors(content: bytes) -> bytes:
            answer = json.loads(content)
            refused = {"error": {"type": "circuit_breaking_exception", "reason": "data too large"}, "status": 429}
            parts = zip(searches, answer["responses"], strict=True)
            answer["responses"] = [refused if b'"knn"' in search else part for search, part in parts]
            return json.dumps(answer).encode()

        return Fault(edit=refuse_vectors)

    with opened(old, judge, "/_msearch", deadline=60.0) as index:
        answer = index.search(LAMPS)
    assert ids(answer) == "ed"
    assert answer.degraded == "the server did not answer in time for profile, the meaning of the text"
    assert len(sent) == PARTLY  # and not until the deadline


def test_a_text_is_answered_without_the_shopper(old: Window) -> None:
    def judge(_number: int, body: bytes) -> Fault | None:
        return Fault(status=503) if b'{"ids":["u1"]}' in body else None

    with opened(old, judge, "/_mget", deadline=2.0) as index:
        answer = index.search(LAMPS)
    assert answer.tier == "text"
    assert set(ids(answer)[:2]) == {"d", "e"}
    assert answer.degraded == (
        "the server did not answer in time for what the shopper likes and has seen; items that the shopper has seen may"
        " be among them"
    )


def test_where_the_fusion_of_the_server_fails_ours_answers(old: Window) -> None:
    def judge(_number: int, body: bytes) -> Fault | None:
        return Fault(status=500) if b'"hybrid"' in body else None

    with proxy(old.url, judge, judged="/_search") as url:
        backend = OpenSearchBackend(Window(url, old.catalogue.prefix).catalogue)
        vars(backend)["_can_fuse"] = True
        with Searcher(backend) as index:
            query = replace(QUERY, fusion="minmax", diversity=0)
            assert search_hits(index, query)[1] == expected_hits(labelled_tables("old"), query)


PUBLICATIONS = [pytest.param(2, id="few"), pytest.param(20, id="many", marks=pytest.mark.long)]


@pytest.mark.parametrize("publications", PUBLICATIONS)
def test_publications_behind_a_faulty_server_are_answered_whole(window: Window, publications: int) -> None:
    """Three of ten requests are refused, and some take 8 seconds."""

    def judge(number: int, _body: bytes) -> Fault | None:
        return Fault(delay=8.0) if number % 40 == 39 else busy(number)

    publish_labelled(window, "old")
    answers, failures = set(), []
    ended = threading.Event()
    labels = {str(window.catalogue.live()): "old"}

    def ask(index: Searcher) -> None:
        while not ended.is_set():
            try:
                answers.add(search_hits(index))
            except DegradedError as error:
                failures.append(str(error))

    def wait_for(release: str) -> None:
        wait_until(lambda: any(name == release for name, _ in list(answers)), 120)

    with opened(window, judge, follow=0.1, deadline=60.0, read_timeout=1.0) as index, ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(ask, index) for _ in range(2)]
        try:
            for number in range(publications):
                label = ("new", "first")[number % 2]
                release = publish_labelled(window, label).meta.name
                labels[release] = label
                wait_for(release)
            answers.clear()
            wait_for(window.releases.rollback(None))
        finally:
            ended.set()
        for each in asking:
            each.result()
    expected = {label: expected_hits(labelled_tables(label)) for label in set(labels.values())}
    assert [answer for answer in answers if answer[1] != expected[labels[answer[0]]]] == []
    assert [labels for labels in failures if "+" in labels] == []
    assert len(failures) < 5  # nearly all are whole


def test_the_service_marks_and_counts_degraded_answers(old: Window, tmp_path: Path) -> None:
    slow = threading.Event()

    def judge(_number: int, _body: bytes) -> Fault | None:
        return Fault(delay=8.0) if slow.is_set() else None

    with proxy(old.url, judge, judged="") as url:
        options = ExplicitSettings(
            index_url=url, index_prefix=old.catalogue.prefix, encoder=ENCODER, served=tmp_path, search_deadline=0.3
        )
        with Service(options, 60.0) as service, serving(service, page_token=TOKEN) as client:
            whole = client.post("/v1/recommend", json={"user": "u1"}).json()
            slow.set()
            less = client.post("/v1/recommend", json={"user": "u1"}).json()
            by_text = client.post("/v1/search", json={"text": "red lamp"}).json()
            away = [client.get(path) for path in ("/v1/releases", "/readyz", "/?find=u")]
            page = client.get("/look?user=u1&text=red+lamp")
            photo = client.get("/photo?item=a&size=160")
            slow.clear()
            metrics = client.get("/metrics").text
    assert whole["degraded"] is None
    assert (less["tier"], len(less["items"])) == ("popularity", 6)
    assert less["degraded"].endswith("popular with all shoppers; items that the shopper has seen may be among them")
    assert by_text["degraded"].endswith("popular with all shoppers, whatever the text")
    assert "vlm4rec_degraded_answers_total 2.0" in metrics
    assert [response.status_code for response in away] == [503, 503, 503]
    assert 'href="/?find=u">Try again' in away[-1].text
    assert "popular with all shoppers, whatever the text" in page.text  # the page shows it, without photos
    assert page.text.count('class="card"') == 6
    assert (photo.status_code, photo.headers["cache-control"]) == (200, "no-store")


@pytest.mark.usefixtures("hashing_encoder")
def test_the_command_says_that_an_answer_is_degraded(old: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(_number: int, body: bytes) -> Fault | None:
        return Fault(status=503) if b'"ids"' in body else None

    for name, value in {"INDEX_PREFIX": old.catalogue.prefix, "SEARCH_DEADLINE": "1"}.items():
        monkeypatch.setenv(f"VLM4REC_{name}", value)
    monkeypatch.setenv("COLUMNS", "300")
    settings.cache_clear()
    with proxy(old.url, judge, judged="") as url:
        shown = CliRunner().invoke(main, ["search", "--user", "u1", "-k", "3", "--index", url])
    assert shown.exit_code == 0, shown.output
    assert "Degraded: the server" in shown.output
    assert "so the answer is what is popular with all shoppers" in shown.output
    assert "old blue dress" in shown.output  # b, the most popular one
