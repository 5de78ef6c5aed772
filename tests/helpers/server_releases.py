"""Releases of the six items on a server, under a prefix that only one test uses."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pandas as pd
import pytest

from helpers.six_items import documents, given, meta
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch import lease
from vlm4rec_search.indexes.opensearch.aliases import ReleaseCatalogue
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.documents import prepare_documents, read_bodies
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.release import Publication
from vlm4rec_search.indexes.staging import stage_release


class Window:
    """The releases behind the aliases of one prefix."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url = url
        self.catalogue = ReleaseCatalogue(connect(url, Settings()), prefix)
        self.client = self.catalogue.client

    @property
    def releases(self) -> OpenSearchReleases:
        return OpenSearchReleases(self.client, self.catalogue.prefix, self.url)

    def publish(self, frame: pd.DataFrame | None = None, **options: Any) -> Publication:
        tables = given(documents() if frame is None else frame)
        return publish_release(self.catalogue, tables, meta(), **options)

    def documents(self, kind: str = "items") -> dict[str, dict[str, Any]]:
        """Return the documents behind an alias by id."""
        body = {"size": 10_000, "query": {"match_all": {}}}
        hits = self.client.search(index=f"{self.catalogue.prefix}{kind}", body=body)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}

    @contextmanager
    def staged(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection with the six items staged and prepared, as a publication sends them."""
        with duckdb.connect() as connection:
            stage_release(connection, given(documents()), meta(), lambda _: None)
            prepare_documents(connection)
            yield connection

    def rename(self, live: str) -> str:
        """Let the aliases name copies of the live indices, as after a restore under another name, and return theirs."""
        actions: list[dict[str, Any]] = []
        for kind, alias in self.catalogue.aliases.items():
            source, target = (self.catalogue.index(kind, name) for name in (live, f"{live}restored"))
            self.client.indices.put_settings(index=source, body={"index.blocks.write": True})
            self.client.indices.clone(index=source, target=target, body={"settings": {"index.blocks.write": None}})
            actions += [{"remove": {"index": source, "alias": alias}}, {"add": {"index": target, "alias": alias}}]
        self.client.indices.update_aliases(body={"actions": actions})
        return f"{live}restored"

    def repair(self, index: str) -> None:
        """Restore the six items in an index of items."""
        self.client.delete_by_query(index=index, body={"query": {"match_all": {}}}, refresh=True)
        with self.staged() as connection:
            for name, body in read_bodies(connection, "items"):
                self.client.index(index=index, id=name, body=body, refresh=True)

    def indexes(self) -> set[str]:
        """Return the indices of releases under the prefix, without the prefix."""
        indices = self.client.indices.get(index=f"{self.catalogue.prefix}*__*")
        return {name.removeprefix(self.catalogue.prefix) for name in indices}


@pytest.fixture
def window(opensearch_url: str, own_prefix: str) -> Window:
    return Window(opensearch_url, own_prefix)


@pytest.fixture
def quick_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew leases every half second, and take a lease over after 5 seconds without a renewal."""
    monkeypatch.setattr(lease, "RENEWED", 0.5)
    monkeypatch.setattr(lease, "LOST", 5.0)


def relabelled(label: str) -> pd.DataFrame:
    """Return the six items with a label in every title, so that a hit shows its release."""
    frame = documents()
    return frame.assign(title=label + " " + frame["title"], content_hash=frame["item_id"] + label)
