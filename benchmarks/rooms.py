"""What is measured: each room sets up one kind of work at one size and yields a `Contest` of its ways."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module

from benchmarks.measure import Contest

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Room:
    """A kind of work.

    Attributes:
        name: on the command line.
        title: heading of the report.
        measure: `module:function` below `benchmarks`; takes a size and yields a contest.
        unit: what a size counts.
        sizes: of `make bench`, each ten times the one before where the work grows.
        large: of `make bench-large`.
        work: the work and its data in a sentence or two.
        compared: size at which `--compare` measures two commits, None where it takes too long.
    """

    name: str
    title: str
    measure: str
    unit: str
    sizes: Sizes
    large: Sizes
    work: str
    compared: int | None = None

    def load(self) -> Callable[[int], AbstractContextManager[Contest]]:
        """Import and return the function that sets up the work; its imports are heavy."""
        module, function = self.measure.split(":")
        found: Callable[[int], AbstractContextManager[Contest]] = getattr(
            import_module(f"benchmarks.{module}"), function
        )
        return found


ROOMS = (
    Room(
        "text",
        "Text encoding",
        "text_encoder:encoding",
        "texts",
        (10, 100, 1_000),
        (100, 1_000, 10_000),
        "all-MiniLM-L6-v2 on captions of about 30 tokens, each different, on the CPU; vectors of both agree. "
        "Values are for one text.",
        100,
    ),
    Room(
        "plan",
        "Plan of all tables, publication, memory",
        "plan:planning",
        "interactions",
        (2_000, 20_000, 200_000),
        (200_000, 2_000_000, 20_000_000),
        "A made shop with 50 interactions for each item and 40 for each shopper, encoder hashing-384. A first `sqlmesh "
        "plan` into an empty warehouse; a plan after 1% more interactions of 1% of the shoppers; a plan without a "
        "change. Bare DuckDB runs the SQL of all SQL models, as SQLMesh renders it, in the same order, beside copies "
        "of the tables that Python models made: it embeds nothing, runs no audits and keeps no state. Memory is the "
        "largest resident set of each command beside the bytes of the delivered Parquet files. "
        "Values are for a whole command.",
    ),
    Room(
        "catalogue",
        "A catalogue through all commands",
        "catalogue:catalogue",
        "items",
        (100, 1_000, 10_000),
        (10_000, 100_000, 1_000_000),
        "A made shop with 4 interactions for each item and 40 for each shopper, in two CSV files: `vlm4rec import "
        "generic`, `sqlmesh plan`, `vlm4rec index` into a folder and on OpenSearch (one node on the same machine, heap "
        "4 GiB), searches for up to 60 shoppers. Titles are recombined from those of the built-in shop; their vectors "
        "of 384 numbers are mixed from two real ones with noise, and stand in the cache. The warehouse may take 3 GB. "
        "Each command runs once, so that a ratio is one value, and says how many times as long as a yardstick it "
        "took: only the import does the same work. Searches return whole answers and leave out seen items. Memory is "
        "that of the first process which no file backs. Values are for a whole command, or for one search.",
    ),
    Room(
        "search",
        "Embedded search",
        "search:searching",
        "documents",
        (400, 4_000, 40_000),
        (4_000, 40_000, 400_000),
        "Documents with 384 dimensions around 100 cluster centres and 40 words by Zipf's law; ten hits. `semantic` and "
        "`shopper` search with a shopper's profile and leave out 50 seen items, `lexical` and `hybrid` with a text of "
        "three words. Ours returns whole answers; the others return ids only and leave nothing out. "
        "Values are for one search.",
        4_000,
    ),
    Room(
        "batch",
        "Recommendations for many shoppers",
        "recommend:batch",
        "documents",
        (200, 2_000, 20_000),
        (2_000, 20_000, 200_000),
        "`vlm4rec recommend` for 200 shoppers with reasons into a Parquet file, beside the same shoppers searched one "
        "after the other, and beside ALS of `implicit` (64 factors, trained on the same histories), which returns ids "
        "and scores for the same shoppers. Values are for one shopper.",
        2_000,
    ),
    Room(
        "ranking",
        "Ranking in an evaluation",
        "evaluation:ranking",
        "items",
        (400, 4_000, 40_000),
        (4_000, 40_000, 400_000),
        "The 50 best of all items for 200 users by the mean vector of their history (384 dimensions), seen items "
        "masked. The reference's loop goes user by user: scikit-learn's cosine similarity, then a full argsort. "
        "Values are for one user.",
        4_000,
    ),
    Room(
        "behaviour",
        "What all histories teach",
        "behaviour:behaviour",
        "interactions",
        (1_000, 10_000, 100_000),
        (100_000, 1_000_000, 10_000_000),
        "EASE and similar shoppers from a made log with 200 interactions for each item and 20 for each shopper. The "
        "bare forms are numpy and scipy as in the papers, in memory, without recency and without ties in order. "
        "Values are for a whole table.",
        10_000,
    ),
    Room(
        "captions",
        "Captions",
        "caption_pipeline:captioning",
        "photos",
        (4, 40, 400),
        (40, 400, 4_000),
        "Photos of 1,024 x 1,024 pixels. With a server in its own process that answers each request after 200 ms: 16 "
        "requests in flight beside 1, and beside bare posts of bodies that were encoded before the clock starts. "
        "With a captioner that answers at once: the pipeline beside opening, shrinking and hashing by Pillow. "
        "Values are for one photo.",
    ),
    Room(
        "load",
        "Loading OpenSearch",
        "loading:putting",
        "documents",
        (100, 1_000, 10_000),
        (1_000, 10_000, 100_000),
        "The same bytes into equal new indexes of one shard with an HNSW graph of 384 dimensions, until all documents "
        "are searchable; OpenSearch on the same machine, 1 GiB heap. Values are for "
        "one document.",
    ),
    Room(
        "opensearch",
        "Search over OpenSearch",
        "opensearch_search:over_requests",
        "documents",
        (200, 2_000, 20_000),
        (2_000, 20_000, 200_000),
        "A search beside its own requests, sent by opensearch-py two at once as the search does, one after the other, "
        "and as bytes over plain connections whose answers are not parsed. Values are for one search.",
    ),
    Room(
        "service",
        "HTTP service",
        "service:serving_http",
        "documents",
        (200, 2_000, 20_000),
        (2_000, 20_000, 200_000),
        "Recommendations over HTTP beside the same search in the process; answers to 16 connections by two workers "
        "beside one. Values are for one answer.",
    ),
    Room(
        "start",
        "Cold start of every command",
        "commands:starting",
        "start",
        (1,),
        (1,),
        "A new process beside `python -c pass`. The first list is `--help` of every command, the second a command that "
        "does its least work in a small shop that is planned and published.",
    ),
)


def room(name: str) -> Room:
    """Return the room of a name."""
    return next(each for each in ROOMS if each.name == name)
