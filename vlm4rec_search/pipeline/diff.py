"""Compares two releases: their documents, and the hits that shoppers get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import duckdb
import numpy as np
from tenacity import Retrying

from vlm4rec_search.common.concurrency import run_concurrently
from vlm4rec_search.indexes.many import AGAIN, WORKERS, answer_many
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.indexes.staging import count_changes, list_changes
from vlm4rec_search.pipeline.exposure import TOP, measure_release
from vlm4rec_search.search.exposure import Exposure
from vlm4rec_search.search.query import Answer, Mode, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class ReleaseDiff:
    """Differences from the first to the second release.

    Attributes:
        first, second: names of the releases.
        added, changed, deleted: numbers of documents.
        examples: the first ids of the added, changed and deleted documents, up to ten of each.
        users: number of users for whom both releases were searched.
        overlap: by mode, the mean share of a user's ten hits that both releases have. Users whom neither release
            answers from the profile are left out, and so is a mode without any other: they get the same fallback
            whatever the mode.
        compared: by mode, the number of users of this mean.
        first_exposure, second_exposure: what the top tens of these users show in each release.
    """

    first: str
    second: str
    added: int
    changed: int
    deleted: int
    examples: Mapping[str, Sequence[str]]
    users: int
    overlap: Mapping[str, float]
    compared: Mapping[str, int]
    first_exposure: Exposure
    second_exposure: Exposure

    def to_json(self) -> dict[str, object]:
        """Return the stable shape of `vlm4rec releases diff --json`."""
        return {
            "first": self.first,
            "second": self.second,
            "added": self.added,
            "changed": self.changed,
            "deleted": self.deleted,
            "examples": dict(self.examples),
            "users": self.users,
            "kept": dict(self.overlap),
            "compared": dict(self.compared),
            "first_exposure": self.first_exposure.to_json(),
            "second_exposure": self.second_exposure.to_json(),
        }


def compare_releases(
    releases: Releases,
    first: str,
    second: str | None,
    users: int,
    ranking: Ranking | None = None,
    rules: Sequence[Rule] = (),
    again: Retrying = AGAIN,
) -> ReleaseDiff:
    """Compare two releases.

    Args:
        releases: of the index.
        first: name of a release.
        second: name of another release; None takes the live one.
        users: size of the sample of users of the first release; users that the second one lacks are left out.
        ranking, rules: for the searches in both releases, see `Searcher`.
        again: see `answer_many`.

    Raises:
        UsageError: there is no such release.
        RunError: the index does not answer, also when it is asked again.
    """
    first, second = releases.find(first), releases.find(second)
    changes, examples = _changes(releases, first, second)
    with releases.open(first, ranking, rules) as before, releases.open(second, ranking, rules) as after:
        sample = _known(after, releases.users(first, users), again)
        found = {mode: _overlaps(before, after, sample, mode, again) for mode in get_args(Mode)}
    shares = {mode: each for mode, each in found.items() if each}
    overlap = {mode: round(float(np.mean(each)), 4) for mode, each in shares.items()}
    compared = {mode: len(each) for mode, each in shares.items()}
    exposures = [measure_release(releases, name, sample, ranking, rules, again=again) for name in (first, second)]
    return ReleaseDiff(first, second, *changes, examples, len(sample), overlap, compared, *exposures)


def _changes(releases: Releases, first: str, second: str) -> tuple[tuple[int, int, int], Mapping[str, Sequence[str]]]:
    """Return how many documents are added, changed and deleted, and the first ids of each kind."""
    with duckdb.connect() as connection:
        for table, name in (("first", first), ("second", second)):
            connection.execute(f"CREATE TABLE {table} (item_id VARCHAR, content_hash VARCHAR)")
            for batch in releases.documents(name, ("item_id", "content_hash")):
                connection.register("batch", batch)
                connection.execute(f"INSERT INTO {table} SELECT * FROM batch")  # noqa: S608  our own names
        examples = list_changes(connection, "first", "second", _EXAMPLES)
        return count_changes(connection, "first", "second"), examples


def _known(index: Searcher, users: Sequence[str], again: Retrying) -> list[str]:
    """Return those of the users whom a release knows."""

    def look_up(user: str) -> bool:
        return again(lambda: index.backend.reader().user(user) is not None)

    known = dict(run_concurrently(look_up, users, WORKERS))
    return [user for user in users if known[user]]


def _overlaps(before: Searcher, after: Searcher, users: list[str], mode: Mode, again: Retrying) -> list[float]:
    """Return the overlap of each user who can be compared."""
    queries = [Query(user=user, mode=mode, k=TOP) for user in users]
    pairs = zip(*(answer_many(index, queries, again) for index in (before, after)), strict=True)
    return [overlap for pair in pairs if (overlap := _overlap(*pair)) is not None]


def _overlap(before: Answer, after: Answer) -> float | None:
    """Return the number of common hits over the larger number of hits.

    None without any hit, and where both answers are those of a fallback tier.
    """
    if "profile" not in (before.tier, after.tier):
        return None
    first, second = ({hit.item_id for hit in answer.hits} for answer in (before, after))
    return len(first & second) / max(len(first), len(second)) if first or second else None
