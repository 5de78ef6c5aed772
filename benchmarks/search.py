"""Times of the embedded index: `python -m benchmarks.search` (40,000 documents x 384, 50,000 users, 2 minutes).

Vectors are random around cluster centres, texts have 40 words drawn by Zipf's law, and histories have 50 items. Where
the package `duckdb-extension-vss` is installed (extra `dev`), DuckDB's HNSW index is measured beside the exact scan.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from vlm4rec_search.common.vectors import cosines
from vlm4rec_search.indexes import open_index
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend, top_candidates
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.profiles import term_weights, user_vectors
from vlm4rec_search.profiles.item_terms import item_terms
from vlm4rec_search.profiles.shoppers import similar_shoppers
from vlm4rec_search.profiles.taken import Taken
from vlm4rec_search.search.model import Retriever
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.searcher import Searcher

DIMENSION, WORDS, HISTORY, REPEATS = 384, 40, 50, 200


def catalogue(documents: int, draw: np.random.Generator) -> pd.DataFrame:
    """Draw search documents around 100 cluster centres."""
    centres = draw.standard_normal((100, DIMENSION))
    vectors = centres[draw.integers(0, 100, documents)] + 0.7 * draw.standard_normal((documents, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    odds = 1.0 / np.arange(10, 20_010)
    words = np.array([f"w{place}x" for place in range(20_000)], dtype=object)[
        draw.choice(20_000, size=(documents, WORDS), p=odds / odds.sum())
    ]
    frame = pd.DataFrame({"item_id": [f"i{place:06d}" for place in range(documents)]})
    frame["title"] = [" ".join(row[:6]) for row in words]
    frame["description"] = [" ".join(row[6:24]) for row in words]
    frame["caption"] = [" ".join(row[24:]) for row in words]
    frame["details"] = None
    frame["category"] = [f"c{number}" for number in draw.integers(0, 20, documents)]
    frame["price"] = draw.uniform(1, 100, documents).round(2)
    brands = draw.integers(0, 500, documents)
    frame["attributes"] = [f'{{"brand": "b{brand}", "season": "s{brand % 4}"}}' for brand in brands]
    frame["vector"] = list(vectors.astype(np.float32))
    constant = {"available": True, "image": None, "details": None, "encoder": "hashing-384@1", "captioner": "none@1"}
    return frame.assign(**constant, content_hash=frame["item_id"])


def shoppers(items: pd.DataFrame, users: int, draw: np.random.Generator) -> pa.Table:
    """Draw histories, and return search.user_documents with the profiles that the package makes of them."""
    picks = draw.integers(0, len(items), (users, HISTORY))
    ids = items["item_id"].to_numpy()
    names = np.repeat([f"u{place:06d}" for place in range(users)], HISTORY)
    weights = pd.DataFrame({"user_id": names, "item_id": ids[picks.ravel()], "weight": 1.0 / HISTORY})
    profiles, terms = user_vectors(weights, items), term_weights(weights, items)
    alike = similar_shoppers(Taken.from_likes(weights.assign(days=1.0)), (60.0, 60.0))
    with duckdb.connect() as connection:
        frames = {"weights": weights, "profiles": profiles, "terms": terms, "alike": alike}
        for name, frame in frames.items():
            connection.register(name, frame)
        return connection.execute("""
            WITH history AS (
                SELECT user_id, list({'item_id': item_id, 'weight': weight}) AS history, list(item_id) AS seen,
                    list({'item_id': item_id, 'weight': weight, 'lasting': 1.0}) AS behaviour
                FROM weights GROUP BY user_id
            ), similar_takes AS (
                SELECT user_id, list({'item_id': item_id, 'score': score} ORDER BY rank) AS shoppers
                FROM alike GROUP BY user_id
            ), words AS (
                SELECT user_id, list({'term': term, 'word': word, 'weight': weight} ORDER BY rank) AS terms
                FROM terms GROUP BY user_id
            )
            SELECT profiles.user_id, profiles.items, profiles.vector, history.history, history.seen, words.terms,
                [] AS interests, history.behaviour, coalesce(similar_takes.shoppers, []) AS shoppers,
                [] AS repeats, NULL AS segment, [] AS categories, NULL::FLOAT[] AS fitted
            FROM profiles INNER JOIN history USING (user_id) INNER JOIN words USING (user_id)
                LEFT JOIN similar_takes USING (user_id)
        """).to_arrow_table()


def facets(items: pd.DataFrame) -> pd.DataFrame:
    """Return search.item_facets of the catalogue: category, price, and the attributes."""
    attributes = pd.DataFrame(map(json.loads, items["attributes"]))
    fields = {"category": items["category"], "price": items["price"].map("{:.15g}".format), **attributes}
    ids = items["item_id"]
    frames = [pd.DataFrame({"item_id": ids, "field": field, "value": values}) for field, values in fields.items()]
    table = pd.concat(frames, ignore_index=True)
    return table.assign(number=pd.to_numeric(table["value"].where(table["field"] == "price")))


NO_VECTORS = pa.array([], pa.list_(pa.float32()))


def pairs(items: pd.DataFrame, count: int, draw: np.random.Generator) -> pd.DataFrame:
    """Draw so many neighbours for each item, without a value."""
    ids = items["item_id"].to_numpy()
    picks = ids[draw.integers(0, len(ids), (len(ids), count))]
    return pd.DataFrame({"item_id": np.repeat(ids, count), "neighbour_id": picks.ravel()}).drop_duplicates()


def draw_tables(documents: int, users: int) -> SearchTables[Frame]:
    """Draw the tables of a search layer, always the same for the same sizes."""
    draw = np.random.default_rng(7)
    items = catalogue(documents, draw)
    people = shoppers(items, users, draw)
    counts = draw.integers(1, 999, len(items))
    popularity = pd.DataFrame({"item_id": items["item_id"], "shoppers": counts, "recent": counts // 10})
    return SearchTables[Frame](
        documents=items,
        users=people,
        popularity=popularity.assign(score=popularity["recent"] + counts / (1 + counts.max())),
        neighbours=pairs(items, 50, draw).assign(similarity=lambda frame: draw.uniform(0.01, 0.5, len(frame))),
        segments=pd.DataFrame({"segment": ["s"], "item_id": ["i000000"], "shoppers": [1]}),
        facets=facets(items),
        terms=item_terms(items),
        ease=pairs(items, 100, draw).assign(weight=lambda frame: draw.normal(0.0, 0.05, len(frame))),
        fitted=pa.table({"item_id": pa.array([], pa.string()), "fit": pa.array([], pa.string()), "vector": NO_VECTORS}),
    )


def milliseconds(act: Callable[[int], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Return p50 and p95 of act(0), act(1), ... after five warm-up calls."""
    for number in range(5):
        act(number)
    times = []
    for number in range(repeats):
        started = time.perf_counter()
        act(number)
        times.append((time.perf_counter() - started) * 1000.0)
    return float(np.percentile(times, 50)), float(np.percentile(times, 95))


def show(name: str, times: tuple[float, float], note: str = "") -> None:
    """Print one row of the table."""
    print(f"{name:<34} {times[0]:9.2f} {times[1]:9.2f}   {note}", flush=True)


def measure_queries(index: Searcher, users: int) -> None:
    """Print p50 and p95 of each kind of query, another user each time."""

    def ask(**options: object) -> Callable[[int], object]:
        return lambda number: index.search(Query(user=f"u{number * 37 % users:06d}", **options))  # type: ignore[arg-type]

    show("semantic", milliseconds(ask(mode="semantic")))
    show("lexical", milliseconds(ask(mode="lexical")), "32 weighted words")
    show("behaviour", milliseconds(ask(mode="behaviour")), "50 items x 50 neighbours")
    show("ease", milliseconds(ask(mode="ease")), "50 items x 100 neighbours")
    show("hybrid", milliseconds(ask()), "the default ranking: 6 retrievers")
    two = {"behaviour": 0, "ease": 0, "shoppers": 0, "popularity": 0}
    show("hybrid, vectors and words", milliseconds(ask(weights=two)), "2 retrievers")
    show("hybrid, filtered", milliseconds(ask(filters=["category=c3", "price=10..50"])), "filter used before")
    prices = (f"price>={number / 10}" for number in range(10_000))
    fresh = milliseconds(lambda n: index.search(Query(user=f"u{n:06d}", filters=[next(prices)])))
    show("hybrid, new filter each time", fresh)
    show("hybrid, explained", milliseconds(ask(explain=True), 50))


def build_hnsw(backend: EmbeddedBackend, extension: Path) -> tuple[duckdb.DuckDBPyConnection, float]:
    """Return a database with an HNSW index over the release's vectors, and the seconds that it took."""
    connection = duckdb.connect()
    connection.load_extension(str(extension))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(backend.store.vectors.ravel()), DIMENSION)
    connection.register("given", pa.table({"document": np.arange(len(vectors)), "vector": vectors}))
    connection.execute("CREATE TABLE items AS FROM given")
    started = time.perf_counter()
    connection.execute("CREATE INDEX nearest ON items USING HNSW (vector) WITH (metric = 'cosine')")
    return connection, time.perf_counter() - started


def measure_hnsw(backend: EmbeddedBackend, users: int) -> None:
    """Print time, build time and recall@10 of HNSW beside the exact scan, for profile vectors, nothing excluded."""
    package = find_spec("duckdb_extension_vss")
    if package is None:
        print("HNSW: not measured, pip install duckdb-extension-vss to compare")
        return
    places = package.submodule_search_locations or []
    connection, seconds = build_hnsw(
        backend, next(path for at in places for path in Path(at).rglob("*.duckdb_extension"))
    )
    profiles = [backend.user(f"u{number * 37 % users:06d}") for number in range(REPEATS)]
    queries = [user.vector for user in profiles if user and user.vector is not None]
    sql = f"SELECT document FROM items ORDER BY array_cosine_distance(vector, $q::FLOAT[{DIMENSION}]) LIMIT 10"  # noqa: S608

    def nearest(number: int) -> set[int]:
        return {row[0] for row in connection.execute(sql, {"q": queries[number].tolist()}).fetchall()}

    def scan(number: int) -> set[int]:
        scores = cosines(backend.store.vectors, queries[number])
        return set(top_candidates(Retriever("profile", "semantic"), scores, None, 10).documents.tolist())

    recall = np.mean([len(nearest(number) & scan(number)) / 10 for number in range(len(queries))])
    note = f"recall@10 {recall:.3f}, build {seconds:.1f} s, no filters"
    show("vectors only: HNSW", milliseconds(nearest, len(queries)), note)
    show("vectors only: exact scan", milliseconds(scan, len(queries)), "recall@10 1, no build, any filter")


def main() -> None:
    """Build a release of the asked size in a temporary folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--users", type=int, default=50_000)
    sizes = parser.parse_args()
    tables = draw_tables(sizes.documents, sizes.users)
    with tempfile.TemporaryDirectory() as folder:
        meta = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
        built = build_release(Path(folder), tables, meta)
        started = time.perf_counter()
        index = open_index(folder)
        opened = time.perf_counter() - started
        print(f"{sizes.documents:,} documents x {DIMENSION}, {sizes.users:,} users, {os.cpu_count()} cores")
        print(
            f"build and verify {built.seconds:.1f} s, open {opened:.2f} s\n{'milliseconds':<34} {'p50':>9} {'p95':>9}"
        )
        measure_queries(index, sizes.users)
        if isinstance(index.backend, EmbeddedBackend):
            measure_hnsw(index.backend, sizes.users)
        index.close()


if __name__ == "__main__":
    main()
