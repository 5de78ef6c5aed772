"""Both backends for one test: what is published and asked is the same, only the place is another."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.opensearch_server import prefixed
from helpers.six_items import RANKING, documents, given, meta
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes import Searcher, open_index, open_releases
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.opensearch.aliases import ReleaseCatalogue
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.ranking import load_ranking
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.rules import load_rules

NAMES = ("embedded", "opensearch")


class Backend(ABC):
    """A place for releases of the test's own."""

    releases: Releases
    prefix = ""  # of a server's indices

    @abstractmethod
    def open(self, encoder: str | None = None, ranking: Path | None = None, rules: Path | None = None) -> Searcher:
        """Open what answers, as `open_index` does."""

    def publish(self, tables: SearchTables[Frame], made: ReleaseMeta | None = None) -> str:
        return self.releases.publish(tables, made or meta(), incremental=False, force=True).meta.name


@dataclass
class Embedded(Backend):
    folder: Path

    def __post_init__(self) -> None:
        self.releases = EmbeddedReleases(self.folder)

    def open(self, encoder: str | None = None, ranking: Path | None = None, rules: Path | None = None) -> Searcher:
        return open_index(str(self.folder), encoder, ranking, rules)


@dataclass
class Server(Backend):
    url: str
    prefix: str

    def __post_init__(self) -> None:
        self.releases = OpenSearchReleases(connect(self.url, Settings()), self.prefix, self.url)

    def open(self, encoder: str | None = None, ranking: Path | None = None, rules: Path | None = None) -> Searcher:
        place = ReleaseCatalogue(connect(self.url, Settings()), self.prefix)
        return Searcher(OpenSearchBackend(place), encoder, load_ranking(ranking), load_rules(rules))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    return Embedded(tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def server(opensearch_url: str) -> Iterator[Server]:
    with prefixed(opensearch_url) as prefix:
        yield Server(opensearch_url, prefix)


@pytest.fixture(scope="module", params=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Run each test of the module with both backends."""
    found: Backend = request.getfixturevalue({"embedded": "embedded", "opensearch": "server"}[request.param])
    return found


@pytest.fixture(params=NAMES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an index of the test's own, in a folder and on a server."""
    if request.param == "embedded":
        return Settings(index_url=str(tmp_path / "index"))
    url, prefix = request.getfixturevalue("opensearch_url"), request.getfixturevalue("own_prefix")
    return Settings(index_url=url, index_prefix=prefix)


@pytest.fixture
def releases(place: Settings) -> Releases:
    """Where a test publishes releases of its own, in a folder and on a server."""
    return open_releases(place.index_url, place)


@pytest.fixture(scope="module")
def index(backend: Backend) -> Iterator[Searcher]:
    """The six items of `released` under the ranking of the tests."""
    backend.publish(given(documents()))
    with backend.open(ranking=RANKING) as opened:
        yield opened
