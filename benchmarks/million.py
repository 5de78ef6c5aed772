"""A million items through publication and search, in a folder and on a local OpenSearch, each step in a process.

    python -m benchmarks.million --documents 1000000 --titles items.csv

Titles are recombined from real ones (a CSV file with a column `title`, else those of the built-in shop); vectors are
mixtures of two vectors of real titles with some noise. The tables go into a warehouse file, from which a release is
published, opened and searched as the commands do. Folder and steps can be named, so that a step can be repeated.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa

from vlm4rec_search.common.vectors import Vectors, unit
from vlm4rec_search.datasets.demo_shop.catalogue import draw_items
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend, find_candidates, score, top_candidates
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.search_layer import read_search_layer
from vlm4rec_search.search.model import Retriever
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.searcher import Searcher

Result: TypeAlias = dict[str, Any]

USERS, HISTORY, BATCH, REPEATS, DEPTH = 2_000, 8, 50_000, 60, 200
ENCODER = "all-MiniLM-L6-v2"
STEPS = ("tables", "publish", "search", "opensearch")
HEAP_MB = 2_048  # of the server
_EMPTY = """
CREATE SCHEMA search; CREATE SCHEMA captions; CREATE SCHEMA histories; CREATE SCHEMA embeddings;
CREATE SCHEMA profiles; CREATE TABLE profiles.pace AS SELECT 30.0 AS popularity_days;
CREATE TABLE captions.item_captions AS SELECT 'none@1' AS prompt;
CREATE TABLE histories.as_of AS SELECT TIMESTAMP '2026-11-01' AS as_of;
CREATE TABLE embeddings.item_texts AS SELECT 'title_caption' AS recipe;
CREATE TABLE embeddings.fitted_items (item_id VARCHAR, fit VARCHAR, vector FLOAT[]);
CREATE TABLE search.item_documents (item_id VARCHAR, title VARCHAR, description VARCHAR, caption VARCHAR,
    category VARCHAR, price DOUBLE, available BOOLEAN, image VARCHAR, details VARCHAR, attributes JSON, vector FLOAT[],
    encoder VARCHAR, captioner VARCHAR, content_hash VARCHAR);
CREATE TABLE pool (place INTEGER, title VARCHAR, words VARCHAR[]);
"""
_DOCUMENTS = """
INSERT INTO search.item_documents
SELECT printf('I%07d', number), array_to_string(first.words[:3] || second.words[2:4], ' ')
    || printf(' %s%d', first.words[1], number % 9973),
    first.title || ' with ' || second.title, NULL, printf('c%d', hash(a) % 40), round(1 + hash(number) % 9900 / 100, 2),
    number % 20 <> 0, NULL, printf('c%d, b%d', hash(a) % 40, hash(b) % 500), json_object('brand',
    printf('b%d', hash(b) % 500)), vector, $encoder, 'none@1', md5(number::VARCHAR)
FROM batch INNER JOIN pool AS first ON first.place = a INNER JOIN pool AS second ON second.place = b
"""
_REST = """
CREATE TABLE search.item_facets AS
SELECT item_id, 'category' AS field, category AS value, NULL::DOUBLE AS number FROM search.item_documents UNION ALL
SELECT item_id, 'price', price::VARCHAR, price FROM search.item_documents UNION ALL
SELECT item_id, 'available', available::VARCHAR, NULL FROM search.item_documents UNION ALL
SELECT item_id, 'brand', attributes->>'brand', NULL FROM search.item_documents;
CREATE TABLE search.item_terms AS
WITH cut AS (
    SELECT item_id, unnest(list_distinct(string_split(lower(title), ' '))) AS word FROM search.item_documents
)
SELECT item_id, word AS term, word, 1.0::DOUBLE AS weight,
    row_number() OVER (PARTITION BY item_id ORDER BY word) AS rank
FROM cut WHERE word <> '';
CREATE TABLE search.item_popularity AS
SELECT item_id, 1 + hash(item_id) % 500 AS shoppers, hash(item_id) % 50 AS recent,
    (hash(item_id) % 50)::DOUBLE AS score,
    row_number() OVER (ORDER BY hash(item_id) % 50 DESC, item_id) AS rank FROM search.item_documents;
CREATE TABLE search.item_neighbours AS
SELECT item_id, printf('I%07d', hash(item_id || step) % $documents) AS neighbour_id, 1 / (1 + step) AS similarity,
    step AS rank FROM search.item_documents CROSS JOIN range(1, 11) AS steps(step);
CREATE TABLE search.ease_weights AS
SELECT item_id, neighbour_id, similarity AS weight, rank FROM search.item_neighbours;
CREATE TABLE search.segment_popularity AS
SELECT 'all' AS segment, item_id, shoppers, rank FROM search.item_popularity WHERE rank <= 100;
"""
_USERS = """
CREATE TABLE search.user_documents AS
WITH taken AS (
    SELECT printf('u%05d', "user") AS user_id, 'I' || printf('%07d', hash("user" * 100 + step) % $documents) AS item_id
    FROM range($users) AS people("user") CROSS JOIN range($history) AS steps(step)
), words AS (
    SELECT user_id, list({'term': term, 'word': word, 'weight': 1.0::DOUBLE} ORDER BY term)[:32] AS terms
    FROM (SELECT DISTINCT user_id, term, word FROM taken INNER JOIN search.item_terms USING (item_id)) GROUP BY user_id
), sums AS (
    SELECT user_id, list(item_id) AS seen, list(vector) AS vectors
    FROM taken INNER JOIN search.item_documents USING (item_id) GROUP BY user_id
), means AS (
    SELECT user_id, seen,
        list_transform(range(1, len(vectors[1]) + 1), lambda i:
            list_sum(list_transform(vectors, lambda v: v[i]))) AS total
    FROM sums
)
SELECT user_id, len(seen) AS items,
    list_transform(total, lambda x: (x / sqrt(list_inner_product(total, total)))::FLOAT) AS vector,
    list_transform(seen, lambda s: {'item_id': s, 'weight': 1.0::DOUBLE / len(seen)}) AS history, seen, terms,
    []::STRUCT(vector FLOAT[], importance DOUBLE, medoid VARCHAR, items VARCHAR[])[] AS interests,
    list_transform(seen, lambda s: {'item_id': s, 'weight': 1.0::DOUBLE, 'lasting': 1.0::DOUBLE}) AS behaviour,
    []::STRUCT(item_id VARCHAR, score DOUBLE)[] AS shoppers,
    []::STRUCT(item_id VARCHAR, score DOUBLE, times INTEGER, last_on VARCHAR)[] AS repeats,
    NULL::VARCHAR AS segment, []::VARCHAR[] AS categories, NULL::FLOAT[] AS fitted
FROM means LEFT JOIN words USING (user_id)
"""


def read_titles(titles: Path | None) -> list[str]:
    """Return at most 4,000 distinct titles of a CSV file, else of the built-in shop."""
    if titles is None:
        found = [item.title for item in draw_items("title", 4_000, np.random.default_rng(5))]
    else:
        with titles.open(encoding="utf-8") as file:
            found = [row["title"] for row in csv.DictReader(file) if row["title"]]
    return list(dict.fromkeys(found))[:4_000]


def draw_vectors(pool: Vectors, first: Any, second: Any, draw: np.random.Generator) -> Vectors:
    """Return 0.7 x one vector of the pool + 0.5 x another one + noise of length 0.25, scaled to length 1."""
    noise = draw.standard_normal((len(first), pool.shape[1]), dtype=np.float32) * np.float32(
        0.25 / pool.shape[1] ** 0.5
    )
    return unit(np.float32(0.7) * pool[first] + np.float32(0.5) * pool[second] + noise)


def make_tables(warehouse: Path, documents: int, titles: Path | None, users: int = USERS) -> Result:
    """Write the tables of a search layer into a new warehouse file."""
    draw = np.random.default_rng(3)
    texts = read_titles(titles)
    encoder = load_sentence_encoder(ENCODER)
    pool = np.concatenate([encoder.encode(texts[low : low + 256]) for low in range(0, len(texts), 256)])
    with duckdb.connect(str(warehouse), config={"memory_limit": "2GB"}) as connection:
        connection.execute(_EMPTY)
        rows = [(place, text, [word for word in text.split() if word]) for place, text in enumerate(texts)]
        connection.executemany("INSERT INTO pool VALUES (?, ?, ?)", rows)
        for low in range(0, documents, BATCH):
            numbers = np.arange(low, min(documents, low + BATCH))
            first, second = (draw.integers(0, len(pool), len(numbers)) for _ in range(2))
            vectors = draw_vectors(pool, first, second, draw)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), pool.shape[1])
            batch = pa.table({"number": numbers, "a": first, "b": second, "vector": lists})
            connection.register("batch", batch)
            connection.execute(_DOCUMENTS, {"encoder": encoder.id})
            connection.unregister("batch")
        for statement in _REST.split(";")[:-1]:
            given = {"documents": documents} if "$documents" in statement else None
            connection.execute(statement, given)
        connection.execute(_USERS, {"documents": documents, "users": users, "history": HISTORY})
    return {"warehouse_mb": warehouse.stat().st_size / 1e6}


def publish(warehouse: Path, folder: Path) -> Result:
    """Publish the tables, with the seconds of the two halves: the snapshot of the tables, and the build."""
    started = time.perf_counter()
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        layer = read_search_layer(connection)
    read = time.perf_counter() - started
    EmbeddedReleases(folder).publish(layer.tables, layer.new_release("benchmark"), incremental=False, force=False)
    built = time.perf_counter() - started - read
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"read_s": read, "build_s": built, "index_mb": size / 1e6}


def measure_searches(folder: Path) -> Result:
    """Open the release, and time searches of another shopper each."""
    started = time.perf_counter()
    releases = EmbeddedReleases(folder)
    name = releases.live()
    index = releases.open(str(name))
    found: Result = {"open_s": time.perf_counter() - started}

    def ask(number: int, **options: Any) -> object:
        return index.search(Query(user=f"u{number * 37 % USERS:05d}", **options))

    started = time.perf_counter()
    ask(1)
    found["first_hybrid_s"] = time.perf_counter() - started
    queries: dict[str, dict[str, Any]] = {
        "semantic": {"mode": "semantic"},
        "lexical": {"mode": "lexical"},
        "behaviour": {"mode": "behaviour"},
        "ease": {"mode": "ease"},
        "hybrid": {},
        "hybrid, category and price": {"filters": ["category=c3", "price=10..50"]},
        "hybrid, explained": {"explain": True},
    }
    for label, options in queries.items():
        found[f"{label} p50_ms"] = p50(partial(ask, **options))
    if isinstance(index.backend, EmbeddedBackend):
        found |= measure_scans(index.backend)
    found |= rates(index)
    index.close()
    return found


def measure_scans(backend: EmbeddedBackend) -> Result:
    """Take the processor times of the exact scan and of the retrieval that searches use, in turn, for each shopper."""
    store, recalls = backend.store, []
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(-2, REPEATS // 2):
        user = backend.user(f"u{abs(number) * 37 % USERS:05d}")
        retriever = Retriever("profile", "semantic", user.vector if user else None)
        started = time.thread_time()
        exact = top_candidates(retriever, score(store, retriever), None, DEPTH).documents
        between = time.thread_time()
        found = find_candidates(store, retriever, None, DEPTH).documents
        times[0].append((between - started) * 1000.0)
        times[1].append((time.thread_time() - between) * 1000.0)
        recalls.append(len(set(exact[:10].tolist()) & set(found[:10].tolist())) / 10)
    scan, used = (float(np.median(each[2:])) for each in times)
    shortlist = store.shortlists.get("semantic")
    length = shortlist.length if shortlist else None
    recall = float(np.mean(recalls))
    return {"scan cpu_ms": scan, "used cpu_ms": used, "scan / used": scan / used, "recall_10": recall, "listed": length}


def rates(index: Searcher, count: int = 120) -> Result:
    """Return hybrid searches per second by one thread and by eight."""
    found = {}
    for threads in (1, 8):
        with ThreadPoolExecutor(threads) as pool:
            started = time.perf_counter()
            list(pool.map(lambda number: index.search(Query(user=f"u{number * 37 % USERS:05d}")), range(count)))
            found[f"hybrid per second, {threads} threads"] = count / (time.perf_counter() - started)
    return found


def p50(act: Callable[[int], object], repeats: int = REPEATS) -> float:
    """Return the median milliseconds of act(0), act(1), ... after three warm-up calls."""
    times = []
    for number in range(-3, repeats):
        started = time.perf_counter()
        act(abs(number))
        times.append((time.perf_counter() - started) * 1000.0)
    return float(np.median(times[3:]))


@contextmanager
def peak_memory(found: Result, process: str = "self", every: float = 0.05) -> Iterator[None]:
    """Add the peaks of a process in the block, in MB: of all resident pages, and of those that no file backs."""
    ended = threading.Event()
    peaks = {"RssAnon": 0, "VmRSS": 0}

    def watch() -> None:
        while not ended.wait(every):
            status = Path(f"/proc/{process}/status").read_text("utf-8")
            for name in peaks:
                peaks[name] = max(peaks[name], int(status.partition(f"{name}:")[2].split()[0]))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        found |= {"peak_anonymous_mb": peaks["RssAnon"] / 1e3, "peak_resident_mb": peaks["VmRSS"] / 1e3}


def run_step(step: str, folder: Path, documents: int, titles: Path | None, heap_mb: int = HEAP_MB) -> Result:
    """Run one of `STEPS` in this process, with its seconds and its peak of memory."""
    warehouse, index = folder / "warehouse.duckdb", folder / "index"
    found: Result = {"step": step, "documents": documents}
    started = time.perf_counter()
    with peak_memory(found):
        if step == "tables":
            found |= make_tables(warehouse, documents, titles)
        elif step == "publish":
            found |= publish(warehouse, index)
        elif step == "search":
            found |= measure_searches(index)
    if step == "opensearch":
        from benchmarks.million_on_server import load_and_search

        found |= load_and_search(warehouse, folder / "opensearch", heap_mb)
    found["seconds"] = time.perf_counter() - started
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}


def run(
    documents: int,
    folder: Path,
    titles: Path | None = None,
    steps: Sequence[str] = STEPS,
    heap_mb: int = HEAP_MB,
) -> Iterator[Result]:
    """Run steps one after the other, each in a process of its own, and yield what each found."""
    for step in steps:
        command = [sys.executable, "-m", "benchmarks.million", "--only", step, "--folder", str(folder)]
        command += ["--documents", str(documents), *(["--titles", str(titles)] if titles else [])]
        command += ["--heap", str(heap_mb)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  our own
        yield json.loads(output.splitlines()[-1])


def main() -> None:
    """Run the steps and print what each found as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--titles", type=Path, help="CSV file with a column title; the built-in shop's by default")
    parser.add_argument("--folder", type=Path, help="where tables and index go and stay; a temporary one by default")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--heap", type=int, default=HEAP_MB, help="Java heap of the server, in MiB")
    parser.add_argument("--only", choices=STEPS, help="run this step in this process")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(run_step(given.only, given.folder, given.documents, given.titles, given.heap)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        for result in run(given.documents, given.folder or Path(temporary), given.titles, given.steps, given.heap):
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
