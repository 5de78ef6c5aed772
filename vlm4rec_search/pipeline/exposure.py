"""Asks a ranking for the top tens of many shoppers, and measures what they show."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from tenacity import Retrying

from vlm4rec_search.common.paths import working_folder
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.many import AGAIN, answer_many
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.indexes.search_layer import SearchLayer
from vlm4rec_search.search.exposure import Exposure, measure_exposure
from vlm4rec_search.search.planning import TIE_BREAK
from vlm4rec_search.search.query import Hit, Query, Tier
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher

TOP = 10
SAMPLE = 200  # shoppers


def measure_release(
    releases: Releases,
    name: str,
    users: Sequence[str],
    ranking: Ranking | None = None,
    rules: Sequence[Rule] = (),
    popularity: Mapping[str, float] | None = None,
    again: Retrying = AGAIN,
) -> Exposure:
    """Return what the top tens of shoppers show in a release.

    Answers of a fallback tier are left out: they do not know the shopper. So are pins, which give all shoppers the same
    first hits on purpose.

    Args:
        releases: of the index.
        name: of the release.
        users: ids of the shoppers, such as `Releases.users`.
        ranking, rules: see `Searcher`.
        popularity: score of each document in the popularity retriever, by item id; None reads it from the release.
        again: see `answer_many`.

    Raises:
        UsageError: the release cannot be searched by this package version.
        RunError: the index does not answer.
    """
    popularity = _read_popularity(releases, name) if popularity is None else popularity
    numbers = {item: number for number, item in enumerate(popularity)}
    lists = np.full((len(users), TOP), -1, dtype=np.int64)
    with releases.open(name, ranking, [rule for rule in rules if rule.action != "pin"]) as index:
        for row, (tier, hits) in enumerate(top_tens(index, users, again)):
            known = [numbers[hit.item_id] for hit in hits if hit.item_id in numbers and tier == "profile"]
            lists[row, : len(known)] = known
        in_force = index.ranking
    exposure = measure_exposure(lists, list(popularity), np.array(list(popularity.values()), dtype=np.float64))
    weights = (in_force.weights, in_force.rank_weights, *(each.weights for each in in_force.by_history))
    has_popularity = any(each.popularity > TIE_BREAK * max(each.model_dump().values()) for each in weights)
    return replace(exposure, has_popularity=has_popularity, is_pinned=ranking is not None)


def measure_tables(search_layer: SearchLayer, ranking: Ranking | None = None, rules: Sequence[Rule] = ()) -> Exposure:
    """Return what the top tens of `SAMPLE` shoppers would show in a release of these tables, see `measure_release`.

    Raises:
        RunError: nothing of the tables can be published.
    """
    with working_folder() as folder:
        releases = EmbeddedReleases(folder)
        name = releases.publish(search_layer.tables, search_layer.new_release("none"), False, False).meta.name
        return measure_release(releases, name, releases.users(name, SAMPLE), ranking, rules)


def top_tens(index: Searcher, users: Sequence[str], again: Retrying = AGAIN) -> Iterator[tuple[Tier, Sequence[Hit]]]:
    """Yield the tier that answers each shopper, and the first `TOP` hits.

    Raises:
        RunError: the index does not answer.
    """
    for answer in answer_many(index, [Query(user=user, k=TOP) for user in users], again):
        yield answer.tier, answer.hits


def _read_popularity(releases: Releases, name: str) -> dict[str, float]:
    return {
        row["item_id"]: row["popularity"] or 0.0
        for batch in releases.documents(name, ("item_id", "popularity"))
        for row in batch.to_pylist()
    }
