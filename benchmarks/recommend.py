"""`vlm4rec recommend` beside searches one after the other, and beside ALS of `implicit`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy import sparse

from benchmarks.measure import Act, Contest
from benchmarks.search import DIMENSION, draw_tables
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.pipeline.recommendations import all_users, write_recommendations
from vlm4rec_search.search.query import Query

SHOPPERS, OURS = 200, "recommend"


@contextmanager
def batch(documents: int) -> Iterator[Contest]:
    """Recommend ten items to each of `SHOPPERS` shoppers."""
    tables = draw_tables(documents, SHOPPERS)
    with tempfile.TemporaryDirectory() as folder:
        releases = EmbeddedReleases(Path(folder))
        meta = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
        name = releases.publish(tables, meta, False, False).meta.name
        with releases.open(name) as index:
            queries = [Query(user=user, explain=True) for user in all_users(releases, name)]
            contest, path = Contest(rounds=(3, 5), seconds=15.0), Path(folder) / "recommendations.parquet"
            contest.ours(OURS, lambda: write_recommendations(index, queries, path, silent), per=SHOPPERS)
            contest.rival(
                "one search after the other",
                lambda: lambda: [index.search(query) for query in queries],
                [OURS],
                per=SHOPPERS,
            )

            def als() -> Act:
                from implicit.als import AlternatingLeastSquares

                users = tables.users.to_pylist()  # type: ignore[union-attr]
                columns = {item: number for number, item in enumerate(tables.documents["item_id"])}
                cells = [(row, columns[item]) for row, user in enumerate(users) for item in user["seen"]]
                rows, items = zip(*cells, strict=True)
                shape = len(users), len(columns)
                histories = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, items)), shape=shape)
                model = AlternatingLeastSquares(factors=64, iterations=5, random_state=7)
                model.fit(histories, show_progress=False)
                return lambda: model.recommend(np.arange(len(users)), histories, N=10)

            contest.rival(
                "implicit ALS recommend", als, [OURS], per=SHOPPERS, note="one retriever, no reasons, no file"
            )
            yield contest


@contextmanager
def silent(title: str, total: int) -> Iterator[object]:
    """Show no progress."""
    yield lambda count: None
