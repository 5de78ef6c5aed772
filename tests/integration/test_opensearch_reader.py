"""A service that searches through the aliases all the time, for the tests of faults; and that it notices wrong answers.

It does what a service does: resolve the aliases, read the profile of a shopper, search items by all legs. An answer is
right when it is, hit by hit and score by score, the embedded index's over the tables of one release.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from helpers.server_releases import Window, relabelled
from helpers.six_items import VECTORS, given, meta, users
from opensearchpy import exceptions

from vlm4rec_search import Query
from vlm4rec_search.common.errors import Vlm4recError
from vlm4rec_search.indexes import Searcher, open_index
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.mapping import KINDS
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.indexes.release import Publication
from vlm4rec_search.indexes.search_layer import Frame, SearchTables

QUERY = Query(user="u1", k=5)
# what u1 likes and has seen: a profile of one release and items of another give an answer that neither gives
TASTES = {"old": "a", "new": "c", "first": "d", "killed": "e"}
BOUGHT_WITH = {"old": "e", "new": "f", "first": "b", "killed": "f"}
# what a reader may be told while its only server restarts: no answer, status 503, or what 503 says of one part
AWAY = r"UnreachableError|503|RunError: the server refuses: (no_shard_available|search_phase_execution|cluster_block)"
NEVER = r"(?!)"

Hits = tuple[tuple[str, str, float], ...]  # item id, title, score


def labelled(label: str, more: pd.DataFrame | None = None) -> SearchTables[Frame]:
    """Return tables of the six items with a label in every title, and a taste and co-purchases of u1 of that label."""
    people, taste = users(), TASTES[label]
    people.at[0, "vector"] = np.array(VECTORS[taste], dtype=np.float32)
    start = {"item_id": taste, "weight": 1.0}
    for name, value in {"seen": [taste], "history": [], "interests": [], "behaviour": [start]}.items():
        people.at[0, name] = value
    frame = relabelled(label)
    tables = given(frame if more is None else pd.concat([frame, more], ignore_index=True), people)
    pair = {"item_id": taste, "neighbour_id": BOUGHT_WITH[label], "similarity": 0.5}
    return replace(tables, neighbours=pd.DataFrame([pair]))


def publish(window: Window, label: str, **options: Any) -> Publication:
    return publish_release(window.catalogue, labelled(label), meta(), **options)


def right(tables: SearchTables[Frame]) -> Hits:
    """Return what the embedded index answers over the tables."""
    with TemporaryDirectory() as folder:
        build_release(Path(folder), tables, meta())
        with open_index(folder) as index:
            return hits_of(index)[1]


def hits_of(index: Searcher) -> tuple[str, Hits]:
    answer = index.search(QUERY)
    return answer.release, tuple((hit.item_id, hit.title, round(hit.score, 4)) for hit in answer.hits)


class Reader:
    """What a service saw.

    Attributes:
        answers: how often each answer of a search came: release and hits.
        listings: how often the alias of items held what, asked directly: labels and number of items.
        failures: what was said in place of an answer.
    """

    def __init__(self, window: Window, release: str | None) -> None:
        self._own = Window(window.url, window.catalogue.prefix)
        self.answers: Counter[tuple[str, Hits]] = Counter()
        self.listings: Counter[tuple[str, int]] = Counter()
        self.failures: list[str] = []
        staying = Searcher(OpenSearchBackend(self._own.catalogue, release))  # one that a service opened long ago
        self._indexes: list[Callable[[], Searcher]] = [lambda: staying]
        if release is None:
            self._indexes.append(lambda: Searcher(OpenSearchBackend(self._own.catalogue)))

    def look(self) -> None:
        """Search once in every way."""
        for index in self._indexes:
            self._try(lambda index=index: self.answers.update([hits_of(index())]))  # type: ignore[misc]
        self._try(lambda: self.listings.update([self._listing()]))

    def _try(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except (exceptions.TransportError, Vlm4recError) as error:
            self.failures.append(f"{getattr(error, 'status_code', type(error).__name__)}: {error}")

    def _listing(self) -> tuple[str, int]:
        body = {"size": 10_000, "_source": ["title"], "query": {"match_all": {}}}
        hits = self._own.client.search(index=f"{self._own.catalogue.prefix}items", body=body)["hits"]["hits"]
        return "+".join(sorted({hit["_source"]["title"].split()[0] for hit in hits})), len(hits)

    def wrong(self, **tables: SearchTables[Frame]) -> list[object]:
        """Return the answers that are not those of one whole release of these tables, by label."""
        told = {label: right(of) for label, of in tables.items()}
        sizes = {(label, len(of.documents)) for label, of in tables.items()}  # type: ignore[arg-type]
        labels: dict[str, set[str]] = {}
        for release, hits in self.answers:
            labels.setdefault(release, set()).update(label for label in told if told[label] == hits)
        unknown = [answer for answer in self.answers if answer[1] not in told.values()]
        mixed = [release for release, of in labels.items() if len(of) > 1]
        return [*unknown, *mixed, *(one for one in self.listings if one not in sizes)]

    def saw(self, *labels: str, failing: str = NEVER, **tables: SearchTables[Frame]) -> None:
        """Check that every answer was right, that each label answered, and that only what `failing` matches failed."""
        assert self.wrong(**{label: labelled(label) for label in labels}, **tables) == []
        assert {hit[1].split()[0] for _, hits in self.answers for hit in hits} == {*labels, *tables}
        assert {label for label, _ in self.listings} == {*labels, *tables}
        assert [failure for failure in self.failures if not re.match(failing, failure)] == []


@contextmanager
def reading(window: Window, release: str | None = None) -> Iterator[Reader]:
    """Search in two threads from before the block until after it, only the named release where one is given."""
    reader, ended = Reader(window, release), threading.Event()
    reader.look()

    def search() -> None:
        while not ended.is_set():
            reader.look()
            time.sleep(0.01)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield reader
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        reader.look()


def test_a_reader_sees_whole_releases(window: Window) -> None:
    publish(window, "old")
    with reading(window) as reader:
        publish(window, "new")
    reader.saw("old", "new")


def test_a_reader_notices_a_profile_of_one_release_with_items_of_another(window: Window) -> None:
    old, new = (publish(window, label).meta.name for label in ("old", "new"))
    with reading(window) as reader:
        index = Searcher(OpenSearchBackend(window.catalogue))
        indices = {kind: window.catalogue.index(kind, old if kind == "profiles" else new) for kind in KINDS}
        object.__setattr__(index.backend._release, "indices", indices)
        reader.answers.update([hits_of(index)])
    (found,) = reader.wrong(old=labelled("old"), new=labelled("new"))
    assert isinstance(found, tuple)
    assert (found[0], {title.split()[0] for _, title, _ in found[1]}) == (new, {"new"})
    assert "a" not in {item for item, _, _ in found[1]}  # which the old profile has seen


def test_a_reader_notices_a_lost_item_and_an_error(window: Window) -> None:
    live = publish(window, "old").meta.name
    with reading(window) as reader:
        window.client.delete(index=window.catalogue.index("items", live), id="b", refresh=True)
    assert ("old", 5) in reader.wrong(old=labelled("old"))
    with reading(window) as reader:
        window.catalogue.delete(live)
    assert reader.failures
