"""Searches of the embedded index beside exact scans, BM25 and vector indexes of others.

Vectors are random around cluster centres, texts have 40 words drawn by Zipf's law, and histories have 50 items.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.measure import Act, Contest
from vlm4rec_search.common.vectors import Vectors
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.indexes import open_index
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.profiles import term_weights, user_vectors
from vlm4rec_search.profiles.item_terms import item_terms
from vlm4rec_search.profiles.shoppers import similar_shoppers
from vlm4rec_search.profiles.taken import Taken
from vlm4rec_search.search.query import Query

DIMENSION, WORDS, HISTORY, USERS, SEARCHES, TOP = 384, 40, 50, 500, 40, 10


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
    frame["text"] = frame["title"] + ". " + frame["description"] + ". " + frame["caption"]
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
    profiles, terms = pd.concat(user_vectors(weights, items)), term_weights(weights, items)
    alike = pd.concat(similar_shoppers(Taken.from_likes(weights.assign(days=1.0)), (60.0, 60.0)))
    with duckdb.connect() as connection:
        frames = {"weights": weights, "profiles": profiles, "terms": terms, "alike": alike}
        for name, frame in frames.items():
            connection.register(name, frame)
        return connection.execute("""
            WITH history AS (
                SELECT user_id, list({'item_id': item_id, 'weight': weight}) AS history, list(item_id) AS seen,
                    list({'item_id': item_id, 'weight': weight, 'lasting': 1.0}) AS behaviour
                FROM weights GROUP BY user_id
            ), words AS (
                SELECT user_id, list({'term': term, 'word': word, 'weight': weight} ORDER BY rank) AS terms
                FROM terms GROUP BY user_id
            )
            SELECT profiles.user_id, profiles.items, profiles.vector, history.history, history.seen, words.terms,
                [] AS interests, history.behaviour, coalesce(alike.items, []) AS shoppers,
                [] AS repeats, NULL AS segment, [] AS categories, NULL::FLOAT[] AS fitted
            FROM profiles INNER JOIN history USING (user_id) INNER JOIN words USING (user_id)
                LEFT JOIN alike ON alike.user_id = profiles.user_id
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


@contextmanager
def searching(documents: int) -> Iterator[Contest]:
    """Build a release, open it, and search it in each way; an act is `SEARCHES` searches."""
    tables = draw_tables(documents, USERS)
    with tempfile.TemporaryDirectory() as folder:
        meta = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
        build_release(Path(folder), tables, meta)
        with open_index(folder) as index:
            backend = index.backend
            if not isinstance(backend, EmbeddedBackend):
                raise TypeError("the index of a folder is embedded")
            people = [f"u{number * 37 % USERS:06d}" for number in range(SEARCHES)]
            titles = tables.documents["title"].iloc[:: max(1, documents // SEARCHES)][:SEARCHES]
            texts = [" ".join(title.split()[:3]) for title in titles]
            contest = Contest(seconds=25.0)

            def ask(queries: Sequence[Query]) -> Act:
                return lambda: [index.search(query) for query in queries]

            shopper = [Query(user=user) for user in people]
            contest.ours("semantic", ask([Query(user=user, mode="semantic") for user in people]), per=SEARCHES)
            contest.ours("lexical", ask([Query(text=text, mode="lexical") for text in texts]), per=SEARCHES)
            contest.ours("hybrid", ask([Query(text=text) for text in texts]), per=SEARCHES)
            contest.ours("shopper, 6 retrievers", ask(shopper), per=SEARCHES)
            filtered = [Query(user=user, filters=["category=c3", "price=10..50"]) for user in people]
            contest.ours("shopper, filtered", ask(filtered), per=SEARCHES)
            contest.ours("shopper, explained", ask([Query(user=user, explain=True) for user in people]), per=SEARCHES)
            pool = ThreadPoolExecutor(8)
            contest.ours("shopper, 8 threads", lambda: list(pool.map(index.search, shopper)), per=SEARCHES)
            contest.compare(["shopper, filtered", "shopper, explained", "shopper, 8 threads"], "shopper, 6 retrievers")

            vectors = np.ascontiguousarray(backend.store.vectors)
            profiles = [user.vector for user in map(backend.user, people) if user and user.vector is not None]
            queries = np.stack(profiles).astype(np.float32)
            add_scans(contest, vectors, queries)
            add_words(contest, tables.documents, texts)
            contest.rival(
                "LanceDB hybrid",
                lambda: lance_hybrid(Path(folder) / "lance", tables.documents, texts),
                ["hybrid"],
                per=SEARCHES,
                note="RRF, exact vectors, full-text index",
            )
            yield contest
            pool.shutdown()


def add_scans(contest: Contest, vectors: Vectors, queries: Vectors) -> None:
    """Add the ways to find the nearest vectors; approximate ones with their recall."""

    def scan(query: Vectors) -> list[int]:
        scores = vectors @ query
        best = np.argpartition(-scores, TOP)[:TOP]
        return list(best[np.argsort(-scores[best])])

    truth = [set(scan(query)) for query in queries]
    against = ["semantic"]
    contest.rival(
        "numpy exact scan",
        lambda: lambda: [scan(query) for query in queries],
        ["semantic", "shopper, 6 retrievers"],
        per=SEARCHES,
    )
    for name, make in (("usearch", usearch), ("hnswlib", hnswlib), ("DuckDB vss", duckdb_vss)):
        recall: list[float] = []

        def prepare(make: Callable[[Vectors], Callable[[Vectors], list[int]]] = make) -> Act:
            nearest = make(vectors)
            hits = [len(set(nearest(query)) & exact) for query, exact in zip(queries, truth, strict=True)]
            recall.append(float(np.mean(hits)) / TOP)  # noqa: B023  read before the next turn
            return lambda: [nearest(query) for query in queries]

        contest.rival(
            name,
            prepare,
            against,
            per=SEARCHES,
            note=lambda: f"HNSW, recall@10 {recall[0]:.3f}",  # noqa: B023
        )


def usearch(vectors: Vectors) -> Callable[[Vectors], list[int]]:
    """Return a search of usearch's index with its usual settings."""
    from usearch.index import Index

    index = Index(ndim=DIMENSION, metric="ip", dtype="f32")
    index.add(np.arange(len(vectors)), vectors)
    return lambda query: [int(key) for key in index.search(query, TOP).keys]


def hnswlib(vectors: Vectors) -> Callable[[Vectors], list[int]]:
    """Return a search of hnswlib's index with m 16 and 100 candidates."""
    import hnswlib as library

    index = library.Index(space="ip", dim=DIMENSION)
    index.init_index(max_elements=len(vectors), ef_construction=100, M=16)
    index.add_items(vectors, np.arange(len(vectors)))
    index.set_ef(100)
    return lambda query: [int(key) for key in index.knn_query(query, k=TOP)[0][0]]


def extension(name: str) -> str:
    """Return the file of a DuckDB extension that a Python package brings.

    Raises:
        ImportError: the package is not installed.
    """
    package = find_spec(f"duckdb_extension_{name}")
    if package is None:
        raise ImportError(f"pip install duckdb-extension-{name}")
    return str(
        next(path for at in package.submodule_search_locations or [] for path in Path(at).rglob("*.duckdb_extension"))
    )


def duckdb_vss(vectors: Vectors) -> Callable[[Vectors], list[int]]:
    """Return a search of DuckDB's HNSW index."""
    connection = duckdb.connect()
    connection.load_extension(extension("vss"))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION)
    connection.register("given", pa.table({"document": np.arange(len(vectors)), "vector": lists}))
    connection.execute("CREATE TABLE items AS FROM given")
    connection.execute("CREATE INDEX nearest ON items USING HNSW (vector) WITH (metric = 'cosine')")
    sql = f"SELECT document FROM items ORDER BY array_cosine_distance(vector, $q::FLOAT[{DIMENSION}]) LIMIT {TOP}"  # noqa: S608
    return lambda query: [row[0] for row in connection.execute(sql, {"q": query.tolist()}).fetchall()]


def add_words(contest: Contest, items: pd.DataFrame, texts: Sequence[str]) -> None:
    """Add the ways to rank by words."""
    whole = (items["title"] + " " + items["description"] + " " + items["caption"]).tolist()

    def bm25s() -> Act:
        import bm25s as library

        index = library.BM25()
        index.index([text.split() for text in whole], show_progress=False)
        tokens = [text.split() for text in texts]
        return lambda: [index.retrieve([query], k=TOP, show_progress=False) for query in tokens]

    def fts() -> Act:
        connection = duckdb.connect()
        connection.load_extension(extension("fts"))
        connection.register("given", pa.table({"item_id": items["item_id"].tolist(), "words": whole}))
        connection.execute("CREATE TABLE items AS FROM given")
        connection.execute("PRAGMA create_fts_index('items', 'item_id', 'words')")
        sql = f"""
            SELECT item_id, fts_main_items.match_bm25(item_id, $text) AS score FROM items
            WHERE score IS NOT NULL ORDER BY score DESC LIMIT {TOP}
        """  # noqa: S608
        return lambda: [connection.execute(sql, {"text": text}).fetchall() for text in texts]

    contest.rival("bm25s", bm25s, ["lexical"], per=SEARCHES, note="one field")
    contest.rival("DuckDB fts", fts, ["lexical"], per=SEARCHES, note="one field")


def lance_hybrid(folder: Path, items: pd.DataFrame, texts: Sequence[str]) -> Act:
    """Return hybrid searches of LanceDB with the vectors that our encoder makes of the texts."""
    import lancedb

    words = (items["title"] + " " + items["description"] + " " + items["caption"]).tolist()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.stack(items["vector"].tolist()).ravel()), DIMENSION)
    rows = pa.table({"item_id": items["item_id"].tolist(), "words": words, "vector": lists})
    table = lancedb.connect(str(folder)).create_table("items", rows)
    table.create_fts_index("words", replace=True)
    encoder = load_sentence_encoder("hashing-384")

    def ask(text: str) -> object:
        vector = encoder.encode([text])[0]
        return table.search(query_type="hybrid").vector(vector).text(text).limit(TOP).to_arrow()

    ask(texts[0])
    return lambda: [ask(text) for text in texts]
