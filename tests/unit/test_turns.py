"""Turns of threads: how many compute at once, in which order the others follow, and what a turn that is left does."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock, Thread
from types import SimpleNamespace

import pytest
from helpers.six_items import publish

from vlm4rec_search import Query, open_index
from vlm4rec_search.common.turns import Turns
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.search.hits import Found, find_hits
from vlm4rec_search.search.model import Vector
from vlm4rec_search.search.query_encoder import QueryEncoder
from vlm4rec_search.search.searcher import Searcher


class Inside:
    """Counts the threads that are in its `with` block."""

    def __init__(self) -> None:
        self.now, self.most, self._counting = 0, 0, Lock()

    def __enter__(self) -> None:
        with self._counting:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error: object) -> None:
        with self._counting:
            self.now -= 1


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_no_more_than_so_many_threads_compute_at_once() -> None:
    turns, inside = Turns(3), Inside()

    def compute(_: int) -> None:
        with turns, inside:
            time.sleep(0.002)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(compute, range(60)))
    assert (inside.most, inside.now) == (3, 0)
    assert turns._free == 3


def test_threads_follow_in_the_order_in_which_they_came() -> None:
    turns, order = Turns(1), []

    def compute(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        threads = []
        for number in range(6):
            threads.append(Thread(target=compute, args=[number]))
            threads[-1].start()
            wait_for(lambda: len(turns._waiting) == len(threads))
    for thread in threads:
        thread.join(30)
    assert order == list(range(6))


def test_a_block_inside_of_a_turn_waits_for_nothing() -> None:
    turns = Turns(1)
    with turns, turns, turns:
        assert turns._free == 0
    assert turns._free == 1


def test_what_leaves_its_turn_lets_others_go_on_and_comes_back() -> None:
    turns, is_encoding, may_end = Turns(1), Event(), Event()

    def encode(text: str) -> str:
        is_encoding.set()
        assert may_end.wait(30)
        return text.upper()

    def search() -> str:
        with turns, turns:
            found = turns.leaving(encode)("bag")
            assert turns._free == 0
            return found

    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(search)
        assert is_encoding.wait(30)
        with turns:  # while the other one encodes
            may_end.set()
        assert slow.result(30) == "BAG"
    assert turns._free == 1
    assert turns.leaving(str.upper)("outside of a turn") == "OUTSIDE OF A TURN"
    assert turns._free == 1


def test_an_error_gives_the_turn_back() -> None:
    turns = Turns(1)
    with pytest.raises(ZeroDivisionError), turns:
        turns.leaving(lambda: 1 // 0)()
    assert turns._free == 1


def test_searches_of_a_folder_take_turns_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path)
    inside = Inside()

    def find_slowly(*arguments: object) -> Found:
        with inside:
            time.sleep(0.01)
        return find_hits(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("vlm4rec_search.search.searcher.find_hits", find_slowly)
    monkeypatch.setattr(EmbeddedBackend, "turns", Turns(2))
    with open_index(tmp_path) as index, ThreadPoolExecutor(8) as threads:
        other = Searcher(index.backend)  # as a service makes one for a ranking that a request names
        searches = [index.search, other.search] * 8
        answers = list(threads.map(lambda search: search(Query(user="u1")), searches))
    assert all(answer.hits for answer in answers)
    assert inside.most == 2
    assert OpenSearchBackend.turns._free == sys.maxsize, "a server computes elsewhere"


def test_a_search_goes_on_while_another_one_encodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path)
    is_encoding, may_end = Event(), Event()

    def encode_slowly(encoder: QueryEncoder, text: str) -> Vector:
        is_encoding.set()
        assert may_end.wait(30)
        return encode(encoder, text)

    encode = QueryEncoder.encode
    monkeypatch.setattr(QueryEncoder, "encode", encode_slowly)
    monkeypatch.setattr(EmbeddedBackend, "turns", Turns(1))
    with open_index(tmp_path) as index, ThreadPoolExecutor(2) as threads:
        slow = threads.submit(index.search, Query(text="red"))
        assert is_encoding.wait(30)
        assert threads.submit(index.search, Query(user="u1")).result(30).hits
        may_end.set()
        assert slow.result(30).hits


def test_a_thread_that_stops_waiting_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        """A lock whose second acquisition ends with ctrl-C."""

        def __init__(self) -> None:
            self.calls = 0

        def acquire(self) -> None:
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt

    turns = Turns(1)

    def wait() -> None:
        with turns:
            pytest.fail("it was interrupted")

    def come_back() -> None:
        with turns:
            turns.leaving(taken_by_others)()

    def taken_by_others() -> None:
        may_begin.set()
        assert is_taken.wait(30)

    may_begin, is_taken = Event(), Event()
    with ThreadPoolExecutor(1) as threads:
        back = threads.submit(come_back)
        assert may_begin.wait(30)
        with turns:
            monkeypatch.setattr("vlm4rec_search.common.turns.threading", SimpleNamespace(Lock=Interrupted))
            is_taken.set()
            assert isinstance(back.exception(30), KeyboardInterrupt)
            assert isinstance(threads.submit(wait).exception(30), KeyboardInterrupt)
        assert (turns._free, len(turns._waiting)) == (1, 0)
        threads.submit(turns.__enter__).result(30)
    assert turns._free == 0, "a thread that was interrupted takes a turn like any other"
