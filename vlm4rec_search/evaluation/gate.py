"""The gate of `vlm4rec index`: would the new release find less of what people take next than the one that answers?

Both releases are asked as they would have been asked at one earlier moment, the test cut of the time split: histories,
weights, co-purchases and popularity are those of that moment, from the same log; what differs is the documents of each
release, their texts and vectors, and with them the profile vectors, interests and words of the same weights. So no
release knows what it is asked for, and both know equally much.

What this can see: another captioner, prompt, encoder or text rule. What it cannot see: another arithmetic of weights,
profiles or fusion, since a release holds none to compare with (`vlm4rec evaluate` and the tuner judge that); and items
that are gone, since staging refuses their interactions, too. Items newer than the cut have no part in it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.evaluation.data import Split
from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.significance import interval, resampled_means
from vlm4rec_search.evaluation.splits import Part, build_parts
from vlm4rec_search.evaluation.systems.product import Product
from vlm4rec_search.evaluation.top_k import rank
from vlm4rec_search.indexes.search_layer import SearchLayer, SearchTables
from vlm4rec_search.search.query import Mode

if TYPE_CHECKING:
    import pandas as pd

    from vlm4rec_search.indexes.release import ReleaseMeta
    from vlm4rec_search.indexes.releases import Releases
    from vlm4rec_search.search.ranking import Ranking

JUDGED_BY = "nDCG@10"
MODE: Mode = "hybrid"

_USERS = """
WITH weighted AS (
    SELECT weights.user_id, LIST({'item_id': weights.item_id, 'weight': weights.weight / vectors.length}
        ORDER BY weights.item_id) AS history
    FROM weights INNER JOIN vectors ON vectors.user_id = weights.user_id GROUP BY ALL
), words AS (
    SELECT user_id, LIST({'term': term, 'word': word, 'weight': weight} ORDER BY rank) AS terms FROM terms GROUP BY ALL
), tastes AS (
    SELECT user_id, LIST({'vector': vector::FLOAT[], 'importance': importance, 'medoid': medoid, 'items': items}
        ORDER BY rank) AS interests
    FROM interests GROUP BY ALL
)
SELECT users.* REPLACE (
    COALESCE(vectors.items, 0)::INT AS items, vectors.vector::FLOAT[] AS vector,
    COALESCE(weighted.history, []) AS history, COALESCE(words.terms, []) AS terms,
    COALESCE(tastes.interests, []) AS interests)
FROM users LEFT JOIN vectors ON vectors.user_id = users.user_id
LEFT JOIN weighted ON weighted.user_id = users.user_id
LEFT JOIN words ON words.user_id = users.user_id
LEFT JOIN tastes ON tastes.user_id = users.user_id
ORDER BY users.user_id
"""


@dataclass(frozen=True)
class Verdict:
    """New release minus live one, in the mean nDCG@10 of the same held-out users.

    Attributes:
        live: name of the release that answers.
        users: how many were asked.
        before, after: mean of the live and of the new release.
        low, high: 95% interval of the difference, by a paired bootstrap over users.
        tolerance: how much worse the new release may be.
    """

    live: str
    users: int
    before: float
    after: float
    low: float
    high: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether a fall by more than the tolerance is not certain."""
        return self.high >= -self.tolerance

    def __str__(self) -> str:
        """Say what was found."""
        return (
            f"nDCG@10 {self.before:.4f} -> {self.after:.4f} ({self.after - self.before:+.4f}, 95% interval"
            f" {self.low:+.4f} to {self.high:+.4f}, {self.users} held-out users, tolerance {self.tolerance:g})"
        )


def judge_release(
    settings: Settings, releases: "Releases", new: SearchLayer, tolerance: float, say: Callable[[str], None]
) -> Verdict | None:
    """Compare what is about to be published with what answers; None where nothing answers yet.

    Args:
        settings: of the warehouse, which is only read.
        releases: where the live release is.
        new: what is about to be published.
        tolerance: how much nDCG@10 may fall, 0 or more.
        say: told each long step.

    Raises:
        UsageError: the tolerance is negative, the live release cannot be read by this version, or nobody can be asked.
        RunError: the warehouse is being written, or the plan of the earlier moment fails.
    """
    if not 0 <= tolerance <= 1:
        raise UsageError("the tolerance of the gate is a number from 0 to 1")
    name = releases.live()
    if name is None:
        return None
    meta = releases.whole().get(name)
    if meta is None:
        raise UsageError(
            f"the release {name} was made by another version and cannot be compared: leave out --gate once"
        )
    part = build_parts(settings, Protocol(), frozenset(), False, say).test
    say(f"Asking both releases for {len(part.targets.users)} held-out users")
    sides = [_at_cut(part.split, _live(releases, meta), settings), _at_cut(part.split, new, settings)]
    before, after = (_found(part, side) for side in sides)
    low, high = interval(resampled_means((after - before)[:, None], part.split.seed))
    mean = (float(before.mean()), float(after.mean()))
    return Verdict(name, len(before), *mean, float(low[0]), float(high[0]), tolerance)


def _found(part: Part, handed: SearchLayer) -> Floats:
    """Return the metric of each user, (u,)."""
    split = replace(part.split, tables=handed)
    product = Product("gate", MODE)
    product.fit(split)
    ranking = rank(product.scores, split, part.targets.users, 10)
    return accuracy(ranking, part.targets.relevant, (JUDGED_BY,))[:, 0]


def _live(releases: "Releases", meta: "ReleaseMeta") -> SearchLayer:
    """Return a release's documents, without its users."""
    documents = pa.Table.from_batches(releases.documents(meta.name))
    for column, value in (("encoder", meta.encoder), ("captioner", meta.captioner), ("attributes", None)):
        documents = documents.append_column(column, pa.array([value] * len(documents), pa.string()))
    tables = SearchTables(documents, *(pa.table({}) for _ in range(6)))
    return SearchLayer(tables, meta.encoder, meta.dimension, meta.captioner, meta.prompt, meta.as_of)


def _at_cut(split: Split, release: SearchLayer, settings: Settings) -> SearchLayer:
    """Return a release's documents with everything else as it stood at the split's moment."""
    from vlm4rec_search.search.ranking import load_ranking

    if split.tables is None:
        raise UsageError("the gate needs the tables of the search layer")
    documents, cut = release.tables.documents, split.tables.tables
    users = _users(cut.users, _weights(split), documents, load_ranking(settings.ranking))
    return replace(release, tables=replace(cut, documents=documents, users=users), as_of=split.tables.as_of)


def _weights(split: Split) -> "pd.DataFrame":
    import pandas as pd

    cells = split.weights.tocoo()
    users, items = cells.coords
    return pd.DataFrame(
        {"user_id": split.user_ids[users], "item_id": split.catalogue.item_ids[items], "weight": cells.data}
    ).astype({"weight": np.float64})


def _users(users: pa.Table, weights: "pd.DataFrame", documents: pa.Table, ranking: "Ranking") -> pa.Table:
    """Return search.user_documents with what follows from the documents computed from these."""
    import duckdb

    from vlm4rec_search.profiles import term_weights, user_interests, user_vectors

    texts = documents.select(["item_id", "title", "description", "caption"]).to_pandas()
    items = documents.select(["item_id", "vector"]).to_pandas()
    weights = weights[weights["item_id"].isin(items["item_id"])]
    frames = {
        "users": users,
        "weights": weights[weights["weight"] != 0],
        "vectors": user_vectors(weights, items),
        "terms": term_weights(weights, texts, ranking.terms),
        "interests": user_interests(weights, items, ranking.interests),
    }
    with duckdb.connect() as connection:
        for name, frame in frames.items():
            connection.register(name, frame)
        return connection.execute(_USERS).to_arrow_table()
