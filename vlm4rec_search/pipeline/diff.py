"""What differs between two releases: documents, and what shoppers get."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import duckdb
import numpy as np

from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.search.query import Mode, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

TOP = 10
_CHANGES = """
SELECT count(*) FILTER (first.item_id IS NULL), count(*) FILTER (first.item_id = second.item_id
    AND first.content_hash IS DISTINCT FROM second.content_hash), count(*) FILTER (second.item_id IS NULL)
FROM first FULL JOIN second ON first.item_id = second.item_id
"""


@dataclass(frozen=True, slots=True)
class Churn:
    """Documents added, changed and deleted from the first to the second release, and how the answers differ.

    Attributes:
        users: how many were asked for.
        kept: by mode, the mean share of a user's ten hits that stays.
    """

    first: str
    second: str
    added: int
    changed: int
    deleted: int
    users: int
    kept: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """Return the fields."""
        return asdict(self)


def compare(
    releases: Releases,
    first: str,
    second: str | None,
    users: int,
    ranking: Ranking | None = None,
    rules: Sequence[Rule] = (),
) -> Churn:
    """Compare two releases.

    Args:
        releases: where both are.
        first: name of a release.
        second: name of another one; None takes the one that answers.
        users: size of the sample, of those that both releases know.
        ranking, rules: with which both are searched, see `Searcher`.

    Raises:
        UsageError: there is no such release.
    """
    first, second = releases.find(first), releases.find(second)
    added, changed, deleted = _changes(releases, first, second)
    with releases.open(first, ranking, rules) as one, releases.open(second, ranking, rules) as other:
        sample = [user for user in releases.users(first, users) if other.backend.reader().user(user) is not None]
        kept = {mode: share for mode in get_args(Mode) if (share := _kept(one, other, sample, mode)) is not None}
    return Churn(first, second, added, changed, deleted, len(sample), kept)


def _changes(releases: Releases, first: str, second: str) -> tuple[int, int, int]:
    with duckdb.connect() as connection:
        for table, name in (("first", first), ("second", second)):
            connection.execute(f"CREATE TABLE {table} (item_id VARCHAR, content_hash VARCHAR)")
            for batch in releases.documents(name, ("item_id", "content_hash")):
                connection.register("batch", batch)
                connection.execute(f"INSERT INTO {table} SELECT * FROM batch")  # noqa: S608  our own names
        added, changed, deleted = connection.execute(_CHANGES).fetchone() or (0, 0, 0)
    return added, changed, deleted


def _kept(one: Searcher, other: Searcher, users: list[str], mode: Mode) -> float | None:
    """Return the mean share of hits that stay, None where nobody is asked for."""
    shares = [share for user in users if (share := _share(one, other, Query(user=user, mode=mode, k=TOP))) is not None]
    return round(float(np.mean(shares)), 4) if shares else None


def _share(one: Searcher, other: Searcher, query: Query) -> float | None:
    before, after = ({hit.item_id for hit in index.search(query).hits} for index in (one, other))
    return len(before & after) / max(len(before), len(after)) if before or after else None
