"""Rate of `vlm4rec recommend`: `python -m benchmarks.recommend` (5,000 of 5,000 shoppers, 40,000 documents x 384).

The shop is that of `benchmarks.search`. The same shoppers are also searched one after the other, 200 of them.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks.search import DIMENSION, draw_tables
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.pipeline.recommendations import all_users, write_recommendations
from vlm4rec_search.search.query import Query

ALONE = 200  # shoppers


def main() -> None:
    """Build a release of the asked size in a temporary folder and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--users", type=int, default=5_000)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        releases = EmbeddedReleases(Path(folder))
        meta = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
        name = releases.publish(draw_tables(sizes.documents, sizes.users), meta, False, False).meta.name
        with releases.open(name) as index:
            queries = [Query(user=user, explain=True) for user in all_users(releases, name)]
            print(f"{sizes.documents:,} documents x {DIMENSION}, {os.cpu_count()} cores", flush=True)
            for processes in dict.fromkeys((1, len(os.sched_getaffinity(0)))):
                path = Path(folder) / "recommendations.parquet"
                batch = write_recommendations(index, queries, path, processes=processes)
                rate = batch.users / batch.seconds
                print(f"{processes} processes: {batch.users:,} shoppers, {batch.rows:,} rows, {rate:.0f} shoppers/s")
            started = time.perf_counter()
            for query in queries[:ALONE]:
                index.search(query)
            print(f"one after the other: {ALONE / (time.perf_counter() - started):.0f} shoppers/s")


if __name__ == "__main__":
    main()
