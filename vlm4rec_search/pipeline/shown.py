"""What a release would show: the first hits of a sample of shoppers, their profiles, and the popular items.

A publication records it, so that later questions need no old release: which items nobody is shown, and how lists,
profiles and popularity drift from release to release.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Any

import pyarrow as pa

from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.pipeline.exposure import SAMPLE, top_tens
from vlm4rec_search.search.rules import Rule

POPULAR = 100  # items
_SHOPPERS = pa.schema([("user_id", pa.string()), ("tier", pa.string()), ("vector", pa.list_(pa.float32()))])
_TOP_LISTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("tier", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("score", pa.float64()),
    ]
)
_POPULAR_ITEMS = pa.schema(
    [("rank", pa.int32()), ("item_id", pa.string()), ("title", pa.string()), ("popularity", pa.float64())]
)


def observe_release(releases: Releases, name: str, rules: Sequence[Rule] = ()) -> Mapping[str, pa.Table]:
    """Search a release for `SAMPLE` shoppers, as a page of the shop would, and return the rows by table.

    Returns:
        shoppers: tier of the answer and profile vector of each shopper of the sample, NULL without a profile.
        top_lists: their first ten hits, with the release's ranking and the business rules, pins included.
        popular_items: the `POPULAR` most popular items.

    Raises:
        UsageError: the release cannot be searched by this package version.
        RunError: the index does not answer.
    """
    shoppers, hits = [], []
    with releases.open(name, None, rules) as index:
        users = releases.users(name, SAMPLE)
        for user, (tier, shown) in zip(users, top_tens(index, users), strict=True):
            known = index.backend.reader().user(user)
            vector = None if known is None else known.vector
            shoppers.append({"user_id": user, "tier": tier, "vector": vector})
            hits += [
                {
                    "user_id": user,
                    "tier": tier,
                    "rank": hit.rank,
                    "item_id": hit.item_id,
                    "title": hit.title,
                    "score": hit.score,
                }
                for hit in shown
            ]
    batches = releases.documents(name, ("item_id", "title", "popularity"))
    popular = most_popular(row for batch in batches for row in batch.to_pylist())
    return {
        "shoppers": pa.Table.from_pylist(shoppers, schema=_SHOPPERS),
        "top_lists": pa.Table.from_pylist(hits, schema=_TOP_LISTS),
        "popular_items": pa.Table.from_pylist(popular, schema=_POPULAR_ITEMS),
    }


def most_popular(documents: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the `POPULAR` most popular items with their ranks: of equal ones the smallest id first, as searches do.

    Args:
        documents: item_id, title and popularity of each item; an item without popularity is never among them.
    """
    known = (document for document in documents if document["popularity"])
    first = nsmallest(POPULAR, known, key=lambda document: (-document["popularity"], document["item_id"]))
    return [{"rank": rank, **document} for rank, document in enumerate(first, 1)]
