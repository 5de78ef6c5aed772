"""A service that searches through the aliases all the time, for tests of publications that are disturbed.

It resolves the aliases, reads the profile of a shopper, and searches items with all retrievers. An answer is right if
it equals, hit by hit and score by score, the answer of the embedded index over the tables of one release. This holds
for six items, among which the server's approximate search of neighbours visits every vector. Among thousands it may
find other neighbours than an exact scan, depending on when the server merges segments. Tests with so many documents use
`EXACT_QUERY`, whose retrievers are exact, and check the hits of `NEAREST_QUERY` one by one: each needs the title and
the score that an exact scan gives it in one release.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from opensearchpy import exceptions

from helpers.server_releases import Window, relabelled
from helpers.six_items import VECTORS, given, meta, users
from vlm4rec_search import Query
from vlm4rec_search.common.errors import Vlm4recError
from vlm4rec_search.indexes import Searcher, open_index
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.indexes.release import Publication
from vlm4rec_search.indexes.search_layer import Frame, SearchTables

QUERY = Query(user="u1", k=5)
EXACT_QUERY = Query(user="u1", k=5, weights={"semantic": 0})
NEAREST_QUERY = Query(user="u1", mode="semantic", k=5, diversity=0)
# What u1 likes and has seen, by label. With a profile of one release and items of another, a search would have an
# answer that neither release has.
TASTES = {"old": "a", "new": "c", "first": "d", "killed": "e"}
BOUGHT_WITH = {"old": "e", "new": "f", "first": "b", "killed": "f"}
# What a reader may see while its only server restarts: no answer, or status 503 of a request or of a part of it. An
# open index answers with what is popular.
SERVER_AWAY = r"UnreachableError|UnavailableError|CircuitOpenError|DegradedError|503"
NEVER = r"(?!)"

Hits = tuple[tuple[str, str, float], ...]  # item id, title, score


class DegradedError(Vlm4recError):
    """In place of an answer that says that it is not whole."""


def labelled_tables(label: str, more: pd.DataFrame | None = None) -> SearchTables[Frame]:
    """Return tables of the six items: the label stands in every title and decides profile and co-purchases of u1."""
    people, taste = users(), TASTES[label]
    people.at[0, "vector"] = np.array(VECTORS[taste], dtype=np.float32)
    start = {"item_id": taste, "weight": 1.0, "lasting": 0.0}
    for name, value in {"seen": [taste], "history": [], "interests": [], "behaviour": [start], "shoppers": []}.items():
        people.at[0, name] = value
    frame = relabelled(label)
    tables = given(frame if more is None else pd.concat([frame, more], ignore_index=True), people)
    pair = {"item_id": taste, "neighbour_id": BOUGHT_WITH[label], "similarity": 0.5}
    return replace(tables, neighbours=pd.DataFrame([pair]))


def publish_labelled(window: Window, label: str, **options: Any) -> Publication:
    return publish_release(window.catalogue, labelled_tables(label), meta(), **options)


def expected_hits(tables: SearchTables[Frame], query: Query = QUERY) -> Hits:
    """Return the answer of the embedded index over the tables, which scans all vectors."""
    with TemporaryDirectory() as folder:
        build_release(Path(folder), tables, meta())
        with open_index(folder) as index:
            return search_hits(index, query)[1]


@cache
def labelled_hits(label: str, is_exact: bool = False) -> Hits:
    """Return `expected_hits` of `labelled_tables`, for `EXACT_QUERY` where that is asked for."""
    return expected_hits(labelled_tables(label), EXACT_QUERY if is_exact else QUERY)


def search_hits(index: Searcher, query: Query = QUERY) -> tuple[str, Hits]:
    """Return the name of the release that answered, and the hits.

    Raises:
        DegradedError: the answer is degraded; its message names the labels of the hits.
    """
    answer = index.search(query)
    if answer.degraded is not None:
        raise DegradedError("+".join(sorted({hit.title.split()[0] for hit in answer.hits})))
    return answer.release, tuple((hit.item_id, hit.title, round(hit.score, 4)) for hit in answer.hits)


class Reader:
    """What a service saw.

    Attributes:
        answers: how often each answer to the query came: release and hits.
        nearest: how often each answer to `NEAREST_QUERY` came, in tests with many documents.
        listings: how often each content of the items alias came: labels and number of items.
        failures: the errors that came in place of an answer.
    """

    def __init__(self, window: Window, release: str | None, many_documents: bool) -> None:
        self._own = Window(window.url, window.catalogue.prefix)
        self._query, self._many_documents = EXACT_QUERY if many_documents else QUERY, many_documents
        self.answers: Counter[tuple[str, Hits]] = Counter()
        self.nearest: Counter[tuple[str, Hits]] = Counter()
        self.listings: Counter[tuple[str, int]] = Counter()
        self.failures: list[str] = []
        staying = Searcher(OpenSearchBackend(self._own.catalogue, release))  # an index that a service opened long ago
        self._indexes: list[Callable[[], Searcher]] = [lambda: staying]
        if release is None:
            self._indexes.append(lambda: Searcher(OpenSearchBackend(self._own.catalogue)))

    def look(self) -> None:
        """Search once in every way."""
        for index in self._indexes:
            self._try(lambda index=index: self.answers.update([search_hits(index(), self._query)]))  # type: ignore[misc]
            if self._many_documents:
                self._try(lambda index=index: self.nearest.update([search_hits(index(), NEAREST_QUERY)]))  # type: ignore[misc]
        self._try(lambda: self.listings.update([self._listing()]))

    def _try(self, request: Callable[[], None]) -> None:
        try:
            request()
        except (exceptions.TransportError, Vlm4recError) as error:
            self.failures.append(f"{getattr(error, 'status_code', type(error).__name__)}: {error}")

    def _listing(self) -> tuple[str, int]:
        body = {"size": 10_000, "_source": ["title"], "query": {"match_all": {}}}
        hits = self._own.client.search(index=f"{self._own.catalogue.prefix}items", body=body)["hits"]["hits"]
        return "+".join(sorted({hit["_source"]["title"].split()[0] for hit in hits})), len(hits)

    def wrong(self, *known: str, **tables: SearchTables[Frame]) -> list[object]:
        """Return the answers that come from no whole release of these tables, or of `labelled_tables`, by label."""
        expected = {label: labelled_hits(label, self._many_documents) for label in known}
        expected |= {label: expected_hits(given, self._query) for label, given in tables.items()}
        tables |= {label: labelled_tables(label) for label in known}
        sizes = {(label, len(given.documents)) for label, given in tables.items()}  # type: ignore[arg-type]
        labels: dict[str, set[str]] = {}
        for release, hits in self.answers:
            labels.setdefault(release, set()).update(label for label in expected if expected[label] == hits)
        unknown = [answer for answer in self.answers if answer[1] not in expected.values()]
        mixed = [release for release, seen in labels.items() if len(seen) > 1]
        listings = [listing for listing in self.listings if listing not in sizes]
        degraded = [failure for failure in self.failures if failure.startswith("DegradedError") and "+" in failure]
        return [*unknown, *mixed, *listings, *degraded, *self._wrong_neighbours(tables)]

    def _wrong_neighbours(self, tables: dict[str, SearchTables[Frame]]) -> list[object]:
        """Return the answers to `NEAREST_QUERY` with a hit that an exact scan of the same release does not have."""
        if not self.nearest:
            return []
        everything = replace(NEAREST_QUERY, k=10_000, depth=10_000)
        scans = [set(expected_hits(given, everything)) for given in tables.values()]
        return [answer for answer in self.nearest if not any(scan.issuperset(answer[1]) for scan in scans)]

    def assert_saw(self, *labels: str, failing: str = NEVER, **tables: SearchTables[Frame]) -> None:
        """Check that every answer was right, that each label answered, and that only what `failing` matches failed."""
        assert self.wrong(*labels, **tables) == []
        assert {hit[1].split()[0] for _, hits in self.answers for hit in hits} == {*labels, *tables}
        assert {label for label, _ in self.listings} == {*labels, *tables}
        assert [failure for failure in self.failures if not re.match(failing, failure)] == []


@contextmanager
def reading(window: Window, release: str | None = None, many_documents: bool = False) -> Iterator[Reader]:
    """Search in two threads from before the block until after it.

    Args:
        window: the releases.
        release: search only this one, through an index that stays open.
        many_documents: compare only what has to be equal among thousands of documents.
    """
    reader, ended = Reader(window, release, many_documents), threading.Event()
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
