"""A catalogue through all commands: import, plan, publication in a folder and on OpenSearch, searches in both.

Titles are recombined from those of the built-in shop. Their vectors are mixtures of two vectors of real titles with
noise, and stand in the cache of model calls before the plan: encoding is measured elsewhere.
"""

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import csv

from benchmarks.commands import PLAN, SETTINGS, VLM4REC, Finished, execute, project_in
from benchmarks.measure import Act, Contest, Value, no_costs, one_line
from benchmarks.plan import make_interactions
from vlm4rec_search.common.cache import Cache, CostMeter, result_key
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.common.vectors import Vectors, unit
from vlm4rec_search.datasets.demo_shop.catalogue import draw_items
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.embeddings.tables import VECTOR, text_hash
from vlm4rec_search.indexes import open_index
from vlm4rec_search.indexes.opensearch.local import process, server
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.ranking import load_ranking, write_ranking
from vlm4rec_search.search.searcher import Searcher

ENCODER = "all-MiniLM-L6-v2"
OF_ITEM, OF_SHOPPER = 4, 40  # interactions
BATCH, ASKED, NEAREST = 50_000, 60, 10
HEAP_MB, MEMORY = 4_096, "2GB"  # of the server and of the warehouse
QUERIES: dict[str, dict[str, Any]] = {
    "semantic": {"mode": "semantic"},
    "lexical": {"mode": "lexical"},
    "ranking": {},
    "ranking, category and price": {"filters": ["category=category 3", "price=10..50"]},
}


def draw_catalogue(items: int) -> tuple[pa.Table, Vectors]:
    """Draw items, and the vectors of their titles, float32 (items, d)."""
    draw = np.random.default_rng(3)
    real = list(dict.fromkeys(item.title for item in draw_items("title", 4_000, np.random.default_rng(5))))
    encoder = load_sentence_encoder(ENCODER)
    known = np.concatenate([encoder.encode(real[low : low + 256]) for low in range(0, len(real), 256)])
    first, second = draw.integers(0, len(real), (2, items))
    words = [title.split() for title in real]
    columns = {
        "item_id": [f"i{number:05d}" for number in range(items)],
        "title": [
            " ".join([*words[one][:3], *words[other][1:4], f"{words[one][0]}{number}"])
            for number, (one, other) in enumerate(zip(first, second, strict=True))
        ],
        "category": [f"category {number}" for number in first % 40],
        "brand": [f"brand {number}" for number in second % 500],
        "price": draw.uniform(1, 100, items).round(2),
    }
    vectors = np.empty((items, known.shape[1]), dtype=np.float32)
    for low in range(0, items, BATCH):
        part = slice(low, low + BATCH)
        noise = draw.standard_normal(vectors[part].shape, dtype=np.float32) * np.float32(0.25 / known.shape[1] ** 0.5)
        vectors[part] = unit(np.float32(0.7) * known[first[part]] + np.float32(0.5) * known[second[part]] + noise)
    return pa.table(columns), vectors


def fill_cache(folder: Path, titles: Sequence[str], vectors: Vectors) -> None:
    """Keep the vectors as those that the encoder has made of the titles."""
    encoder = load_sentence_encoder(ENCODER).id
    with Cache(folder) as cache, cache.recording("sentence", encoder, "benchmark", CostMeter()) as record:
        for low in range(0, len(titles), BATCH):
            part = zip(titles[low : low + BATCH], vectors[low : low + BATCH], strict=True)
            keys = ((result_key("sentence", encoder, text_hash(title)), row) for title, row in part)
            record({key: VECTOR.encode(row) for key, row in keys}, {})


@dataclass(frozen=True)
class Asked:
    """A shopper who is asked for: id, profile vector and the items that the answers leave out."""

    user: str
    vector: Vectors
    seen: Sequence[str]


class Shop:
    """A shop that went through all commands, each once, with the vectors of its items in a file."""

    def __init__(self, folder: Path, items: int) -> None:
        """Write the files that the shop exports, and fill the cache."""
        self.project, self.exports = project_in(folder / "shop"), folder / "exports"
        self.done: dict[str, Finished] = {}
        self.exports.mkdir()
        catalogue, vectors = draw_catalogue(items)
        csv.write_csv(catalogue, self.exports / "items.csv")
        rows = items * OF_ITEM
        log = make_interactions(items, rows, max(1, rows // OF_SHOPPER), 0, np.random.default_rng(7))
        csv.write_csv(log, self.exports / "interactions.csv")
        fill_cache(self.project / ExplicitSettings(project=None).cache, catalogue["title"].to_pylist(), vectors)
        self.vectors = folder / "vectors.npy"
        np.save(self.vectors, vectors)
        ranking = load_ranking().model_copy(update={"text": "title"})  # other texts would have to be encoded
        write_ranking(ranking, self.project / "ranking.yaml")

    def run(self, name: str, *command: str, url: str = "index") -> None:
        """Run a command in the project."""
        own = {"ENCODER": ENCODER, "RANKING": "ranking.yaml", "INDEX_URL": url, "WAREHOUSE_MEMORY": MEMORY}
        settings = SETTINGS | {f"VLM4REC_{setting}": value for setting, value in own.items()}
        self.done[name] = execute(command, self.project, settings)

    def copy_with_duckdb(self) -> None:
        """Turn the exports into Parquet and nothing else, as DuckDB does it."""
        with duckdb.connect() as connection:
            for file in ("items", "interactions"):
                into = self.exports / f"{file}.parquet"
                connection.execute(f"COPY (FROM '{self.exports / file}.csv') TO '{into}'")

    def asked(self) -> list[Asked]:
        """Return some shoppers with their profile vectors and what they have seen."""
        with duckdb.connect(str(self.project / "warehouse.duckdb"), read_only=True) as connection:
            rows = connection.execute(
                "SELECT user_id, vector, seen FROM search.user_documents WHERE NOT vector IS NULL"
                " ORDER BY hash(user_id) LIMIT ?",
                [ASKED],
            ).fetchall()
        return [Asked(user, np.array(vector, dtype=np.float32), seen) for user, vector, seen in rows]


def scan(vectors: Vectors, asked: Sequence[Asked]) -> tuple[float, list[set[str]]]:
    """Compare vectors of shoppers with those of all items, in one thread of numpy.

    Returns:
        The median seconds for a shopper, and the nearest unseen items of each.
    """
    times, nearest = [], []
    for one in asked:
        started = time.perf_counter()
        scores = np.vecdot(vectors, one.vector)
        scores[[int(item[1:]) for item in one.seen]] = -1.0
        best = np.argpartition(-scores, NEAREST)[:NEAREST]
        times.append(time.perf_counter() - started)
        nearest.append({f"i{number:05d}" for number in best})
    return float(np.median(times)), nearest


def search(index: Searcher, asked: Sequence[Asked], nearest: Sequence[set[str]]) -> tuple[dict[str, float], float]:
    """Return the median seconds of each sort of query, and how much of the nearest items semantic searches find."""
    seconds, found = {}, []
    for name, options in QUERIES.items():
        times = []
        for one in (*asked[:3], *asked):  # the first ones warm up
            started = time.perf_counter()
            answer = index.search(Query(user=one.user, k=NEAREST, **options))
            times.append(time.perf_counter() - started)
            if answer.degraded:
                raise RuntimeError(f"{name}: the answer is degraded: {answer.degraded}")
            found += [{hit.item_id for hit in answer.hits}] if name == "semantic" else []
        seconds[name] = float(np.median(times[3:]))
    both = zip(found[3:], nearest, strict=True)
    return seconds, float(np.mean([len(ours & exact) / NEAREST for ours, exact in both]))


@contextmanager
def catalogue(items: int) -> Iterator[Contest]:
    """Run all commands on a made shop, and compare what they took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shop, contest = Shop(folder, items), Contest(rounds=(1, 1))
        files = ("--items", "items.csv", "--interactions", "interactions.csv")
        publish = (*VLM4REC, "index", "--force", "--no-choose")
        shop.run("import", *VLM4REC, "import", "generic", str(shop.exports), "--to", "data", *files)
        shop.run("plan", *PLAN)
        asked, vectors = shop.asked(), np.load(shop.vectors)
        scanned, nearest = scan(vectors, asked)
        size = vectors.nbytes
        del vectors  # the server needs the memory
        found: dict[str, tuple[dict[str, float], float]] = {}
        opened: dict[str, float] = {}
        memory = [0]

        def in_folder() -> None:
            shop.run("publication in a folder", *publish)
            started = time.perf_counter()
            with open_index(shop.project / "index") as index:
                opened["opening the folder"] = time.perf_counter() - started
                found["folder"] = search(index, asked, nearest)

        def on_server() -> None:
            with running_server(folder / "server", memory) as url:
                shop.run("publication on OpenSearch", *publish, url=url)
                with open_index(url) as index:
                    found["OpenSearch"] = search(index, asked, nearest)

        for place, act in {"folder": in_folder, "OpenSearch": on_server}.items():
            try:
                act()
            except Exception as error:  # the report shows what was measured, and the reason
                contest.missing[place] = f"{type(error).__name__}: {one_line(error)}"
        peaks = {f"{title}: memory": done.anonymous for title, done in shop.done.items()}
        if "OpenSearch" in found:
            peaks["OpenSearch server: memory"] = max(memory)
        exported = sum(path.stat().st_size for path in shop.exports.iterdir())
        for title, value in {
            **{title: done.seconds for title, done in shop.done.items()},
            **opened,
            "numpy exact scan": scanned,
            **{f"{place}: {each}": spent for place, (seconds, _) in found.items() for each, spent in seconds.items()},
            **peaks,
        }.items():
            contest.ours(title, given(value), costs=no_costs, warm=False)
        contest.rival("DuckDB: CSV to Parquet", lambda: shop.copy_with_duckdb, list(shop.done), warm=False)
        contest.rival("numpy reads the vectors", lambda: lambda: np.load(shop.vectors), list(opened))
        for place, (seconds, recall) in found.items():
            for each in seconds:
                note = f"recall@{NEAREST} {recall:.3f}" if each == "semantic" else ""
                contest.compare([f"{place}: {each}"], "numpy exact scan", note=note)
        contest.rival("bytes of the files", lambda: given(exported), ["import: memory"], unit="bytes")
        others = [title for title in peaks if title != "import: memory"]
        contest.rival("bytes of the vectors", lambda: given(size), others, unit="bytes")
        yield contest


def given(value: float) -> Act:
    """Return an act that hands over a value that was measured before."""
    return lambda: Value(value)


@contextmanager
def running_server(folder: Path, memory: list[int]) -> Iterator[str]:
    """Yield the URL of a server of its own; its memory that no file backs is added every 50 ms, bytes."""
    ended = threading.Event()

    def watch(status: Path) -> None:
        while not ended.wait(0.05):
            memory.append(int(status.read_text("utf-8").partition("RssAnon:")[2].split()[0]) * 1024)

    try:
        url = str(server.start(folder, 0, heap_mb=HEAP_MB).url)
        node = process.find_running(folder / "node-1")
        if node is None:
            raise RuntimeError("the server has no process")
        watcher = threading.Thread(target=watch, args=(Path(f"/proc/{node.pid}/status"),), daemon=True)
        watcher.start()
        yield url
        ended.set()
        watcher.join()
    finally:
        ended.set()
        server.stop(folder)
