"""Recommendations for many shoppers at once, as a Parquet file: for mails, other stores, and analysts."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import read_text, replacing_file
from vlm4rec_search.common.progress import Show, lines
from vlm4rec_search.common.text_forms import normal_form
from vlm4rec_search.indexes.many import answer_groups
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.search.query import Answer, Query
from vlm4rec_search.search.searcher import Searcher

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("tier", pa.string()),
        ("release", pa.string()),
        ("ranking", pa.string()),
    ]
)
GROUP = 1_000  # shoppers of a row group, whose rows are in memory


@dataclass(frozen=True, slots=True)
class Batch:
    """What was written.

    Attributes:
        path: the Parquet file.
        release: that answered.
        ranking: version of the ranking configuration.
        users: number of shoppers.
        rows: number of recommendations.
        empty: shoppers without any.
        tiers: number of shoppers by the tier that answered.
        seconds: that it took.
    """

    path: str
    release: str
    ranking: str
    users: int
    rows: int
    empty: int
    tiers: Mapping[str, int]
    seconds: float


def all_users(releases: Releases, name: str) -> list[str]:
    """Return the ids of all shoppers of a release, in order.

    Raises:
        RunError: the index does not answer.
    """
    return sorted(user for batch in releases.hashes(name, "profiles") for user in batch["id"].to_pylist())


def read_users(path: Path) -> list[str]:
    """Return the ids of a text file, one a line, as tables have them, each once, in their order.

    A line without a visible sign is no id.

    Raises:
        UsageError: the file cannot be read as UTF-8, or has no id.
    """
    text = read_text(path, "the ids of shoppers in", encoding="utf-8-sig")
    ids = list(filter(None, dict.fromkeys(map(normal_form, text.splitlines()))))
    if not ids:
        raise UsageError(f"{path} has no id of a shopper: write one a line")
    return ids


def write_recommendations(
    index: Searcher, queries: Sequence[Query], path: Path, show: Show = lines, processes: int = 1
) -> Batch:
    """Answer queries and write the hits; the file is replaced in one step when all are written.

    Args:
        index: an open release.
        queries: each for a shopper, with `explain`, without a text and without a session.
        path: of the Parquet file, with the columns of `SCHEMA`; `forget` finds one by the end of its name.
        show: shows the progress.
        processes: how many answer at once, see `answer_groups`.

    Raises:
        UsageError: the name of the file does not end with .parquet, or as for `Searcher.search`.
        RunError: the index does not answer, or the file cannot be written; an old file stays.
    """
    if path.suffix.lower() != ".parquet":
        raise UsageError(f"cannot write recommendations to {path}: the name of the file has to end with .parquet")
    started, release, ranking = time.monotonic(), index.release.name, index.ranking.version
    tiers: Counter[str] = Counter()
    rows = empty = 0
    groups = [queries[low : low + GROUP] for low in range(0, len(queries), GROUP)]
    try:
        with (
            replacing_file(path) as part,
            pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer,
            show("recommendations", len(queries)) as advance,
        ):
            for group in answer_groups(index, groups, _to_table, processes):
                writer.write_table(group.table)
                tiers.update(group.tiers)
                rows, empty = rows + group.table.num_rows, empty + group.empty
                advance(sum(group.tiers.values()))
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from None
    seconds = round(time.monotonic() - started, 1)
    return Batch(str(path), release, ranking, len(queries), rows, empty, dict(tiers.most_common()), seconds)


class _Group(NamedTuple):
    """The rows of some shoppers, their number by tier, and how many of them got nothing."""

    table: pa.Table
    tiers: Mapping[str, int]
    empty: int


def _to_table(answers: Iterable[Answer]) -> _Group:
    rows: list[dict[str, object]] = []
    tiers: Counter[str] = Counter()
    empty = 0
    for answer in answers:
        tiers[answer.tier] += 1
        empty += not answer.hits
        rows += _rows(answer)
    return _Group(pa.Table.from_pylist(rows, schema=SCHEMA), tiers, empty)


def _rows(answer: Answer) -> Iterator[dict[str, object]]:
    for hit in answer.hits:
        why = hit.explanation
        reason = None if why is None else why.reasons[0].clause if why.reasons else why.sentence
        yield {
            "user_id": answer.user,
            "rank": hit.rank,
            "item_id": hit.item_id,
            "score": hit.score,
            "reason": reason,
            "tier": answer.tier,
            "release": answer.release,
            "ranking": answer.ranking,
        }
