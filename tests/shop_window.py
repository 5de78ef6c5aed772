"""A server's releases of the six items under a prefix of the test's own, and a client that searches all the time."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pandas as pd
from opensearchpy import exceptions
from released import documents, given, meta

from vlm4rec_search.errors import Vlm4recError
from vlm4rec_search.indexes.staging import stage
from vlm4rec_search.opensearch.catalogue import Catalogue
from vlm4rec_search.opensearch.connection import connect
from vlm4rec_search.opensearch.documents import prepare, read_bodies
from vlm4rec_search.opensearch.publishing import publish_release
from vlm4rec_search.publications import Publication
from vlm4rec_search.settings import Settings


class Window:
    """The releases behind the aliases of one prefix."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url = url
        self.catalogue = Catalogue(connect(url, Settings()), prefix)
        self.client = self.catalogue.client

    def publish(self, frame: pd.DataFrame | None = None, **options: Any) -> Publication:
        tables = given(documents() if frame is None else frame)
        return publish_release(self.catalogue, tables, meta(), **options)

    def documents(self, kind: str = "items") -> dict[str, dict[str, Any]]:
        """Return what the alias holds, by id."""
        body = {"size": 10_000, "query": {"match_all": {}}}
        hits = self.client.search(index=f"{self.catalogue.prefix}{kind}", body=body)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}

    @contextmanager
    def staged(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield the six items as a publication has them before it sends them."""
        with duckdb.connect() as connection:
            stage(connection, given(documents()), meta(), lambda _: None)
            prepare(connection)
            yield connection

    def repair(self, index: str) -> None:
        """Let an index of items hold the six items again."""
        self.client.delete_by_query(index=index, body={"query": {"match_all": {}}}, refresh=True)
        with self.staged() as connection:
            for name, body in read_bodies(connection, "items"):
                self.client.index(index=index, id=name, body=body, refresh=True)

    def indexes(self) -> set[str]:
        """Return the indices of releases under the prefix, without the prefix."""
        found = self.client.indices.get(index=f"{self.catalogue.prefix}*__*")
        return {name.removeprefix(self.catalogue.prefix) for name in found}


def relabelled(label: str) -> pd.DataFrame:
    """Return the six items with a label in every title, so that a hit tells its release."""
    frame = documents()
    return frame.assign(title=label + " " + frame["title"], content_hash=frame["item_id"] + label)


class Watch:
    """What a client saw that asked the alias for all items again and again.

    Attributes:
        answers: how often each label (or a mixture of them) was seen, with how many items.
        failures: what was said in place of an answer.
    """

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        self.failures: list[str] = []

    def look(self, window: Window) -> None:
        try:
            found = window.documents()
        except (exceptions.TransportError, Vlm4recError) as error:
            self.failures.append(str(getattr(error, "status_code", type(error).__name__)))
            return
        labels = "+".join(sorted({document["title"].split()[0] for document in found.values()}))
        self.answers[labels, len(found)] = self.answers.get((labels, len(found)), 0) + 1

    def only(self, *labels: str) -> bool:
        """Tell whether each answer was one whole release, and each label was seen."""
        return set(self.answers) == {(label, 6) for label in labels}


@contextmanager
def watching(window: Window) -> Iterator[Watch]:
    """Search in a thread of its own while the block runs."""
    watch, ended = Watch(), threading.Event()
    own = Window(window.url, window.catalogue.prefix)

    def search() -> None:
        while not ended.is_set():
            watch.look(own)
            time.sleep(0.01)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
