"""The gate of `vlm4rec index`: does a new release find less of what shoppers take next than the live release?

Both releases are searched as of one earlier moment, the test cut of the time split. Histories, weights, co-purchases,
learned vectors and popularity are those of that moment and come from the same log. The documents of each release
differ: their texts and vectors, and with them the profile vectors, interests and terms that follow from the same
weights. So neither release knows the interactions that it has to find, and both know equally much of the past.

The gate notices another captioner, prompt, encoder or text rule. It does not notice another arithmetic of weights or
profiles, nor another ranking, since both releases are searched with the ranking in force. `vlm4rec evaluate` and the
choice of a ranking judge these. It does not notice missing items either, because staging refuses their interactions
too. Items that are newer than the cut take no part.
"""

import logging
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from vlm4rec_search.common.analyzer import Analyzer
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.embeddings.recipes import PARTS, embedded_parts, item_texts
from vlm4rec_search.evaluation.data import Split
from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.significance import SIGNIFICANT, interval, paired_p, resampled_means
from vlm4rec_search.evaluation.splits import Part, build_parts
from vlm4rec_search.evaluation.systems.product import Product
from vlm4rec_search.evaluation.top_k import rank
from vlm4rec_search.indexes import ranking_in_force
from vlm4rec_search.indexes.release import DamagedIndexError, ListedRelease
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.indexes.search_layer import MODELS, SearchLayer, SearchTables
from vlm4rec_search.pipeline.rendering import render_model
from vlm4rec_search.profiles import term_weights, user_interests, user_vectors
from vlm4rec_search.search.query import Mode
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.release import ReleaseMeta

logger = logging.getLogger(__name__)

METRIC = "nDCG@10"
MODE: Mode = "hybrid"

# The tables that the model search.user_documents reads. Weights, vectors, terms and interests belong to one release;
# the table `users` holds the model's own rows as of the cut, from which everything else is taken.
_INPUTS = """
CREATE SCHEMA profiles;
CREATE SCHEMA staging;
CREATE SCHEMA search;
CREATE VIEW staging.users AS SELECT user_id, segment FROM users;
CREATE VIEW profiles.recent_items AS SELECT user_id, behaviour AS items FROM users;
CREATE VIEW profiles.favourite_categories AS SELECT user_id, categories FROM users;
CREATE VIEW search.similar_shoppers AS SELECT user_id, shoppers AS items FROM users;
CREATE VIEW profiles.repeat_items AS
SELECT user_id, repeat.item_id, repeat.score, repeat.times, repeat.last_on, rank FROM (
    SELECT user_id, UNNEST(repeats) AS repeat, GENERATE_SUBSCRIPTS(repeats, 1) AS rank FROM users
);
CREATE VIEW profiles.user_profiles AS SELECT user_id, items, length, vector::FLOAT[] AS vector FROM vectors;
CREATE VIEW profiles.fitted_profiles AS SELECT user_id, fitted AS vector FROM users WHERE fitted IS NOT NULL;
CREATE VIEW profiles.term_weights AS SELECT * FROM terms;
CREATE VIEW profiles.interests AS SELECT * FROM tastes;
CREATE VIEW profiles.profile_weights AS
SELECT user_id, item_id, weight, FALSE AS counts FROM weights SEMI JOIN users USING (user_id)
UNION ALL SELECT user_id, UNNEST(seen), 0, TRUE FROM users
UNION ALL SELECT user_id, NULL, 0, FALSE FROM users  -- so that every shopper has a history, be it an empty one
"""


@dataclass(frozen=True)
class Verdict:
    """The mean nDCG@10 of the live and of the new release over the same held-out users.

    Attributes:
        live: name of the live release.
        users: number of held-out users.
        before, after: mean of the live and of the new release.
        low, high: 95% interval of the difference (after minus before), by a paired bootstrap over users.
        tolerance: largest accepted fall.
        p: two-sided p-value of a fall by the tolerance; large for a handful of users, whose interval may be narrow.
    """

    live: str
    users: int
    before: float
    after: float
    low: float
    high: float
    tolerance: float
    p: float

    @property
    def passed(self) -> bool:
        """Whether the fall may be smaller than the tolerance, by the interval or for want of users."""
        return self.high >= -self.tolerance or self.p >= SIGNIFICANT

    def __str__(self) -> str:
        """Return both means, the interval, the number of users and the tolerance; too few users are told."""
        few = f"; too few users to refuse it, p = {self.p:.2g}" if self.high < -self.tolerance and self.passed else ""
        return (
            f"nDCG@10 {self.before:.4f} -> {self.after:.4f} ({self.after - self.before:+.4f}, 95% interval"
            f" {self.low:+.4f} to {self.high:+.4f}, {self.users} held-out users, tolerance {self.tolerance:g}{few})"
        )


def judge_release(
    settings: Settings, tolerance: float, releases: Releases, search_layer: SearchLayer
) -> Verdict | None:
    """Compare a release of this search layer with the live release; return None where no release is live.

    Args:
        settings: of the warehouse, which is only read, and of the SQLMesh project.
        tolerance: largest accepted fall of nDCG@10, 0 to 1.
        releases: where the live release is.
        search_layer: the tables that are about to be published.

    Raises:
        UsageError: the tolerance is out of range, or there are no held-out users.
        RunError: the live release cannot be read, another process is writing the warehouse, or the plan of the earlier
            moment fails.
    """
    if not 0 <= tolerance <= 1:
        raise UsageError("the tolerance of the gate is a number from 0 to 1")
    try:
        name = releases.live()
    except DamagedIndexError as error:
        raise RunError(f"the gate cannot read the live release ({error}): leave out --gate once") from None
    if name is None:
        return None
    listed = releases.list().get(name, ListedRelease(None))
    if listed.meta is None or listed.problem:
        reason = listed.problem or "it is gone"
        raise RunError(f"the gate cannot read the live release {name} ({reason}): leave out --gate once")
    part = build_parts(settings, Protocol(), frozenset(), False, logger.info).test
    logger.info("Searching both releases for %d held-out users", len(part.targets.users))
    query = render_model(settings.require_project(), "search.user_documents")
    ranking = ranking_in_force(settings)
    before, after = (
        _measure(part, _as_of_cut(part.split, layer, query, ranking), ranking)
        for layer in (_read_release(releases, listed.meta), search_layer)
    )
    low, high = interval(resampled_means((after - before)[:, None], part.split.seed))
    means = (float(before.mean()), float(after.mean()))
    p = paired_p(after - before + tolerance)
    return Verdict(name, len(before), *means, float(low[0]), float(high[0]), tolerance, p)


def _measure(part: Part, search_layer: SearchLayer, ranking: Ranking) -> Floats:
    """Return the metric of each held-out user, (u,)."""
    split = replace(part.split, tables=search_layer)
    product = Product("gate", MODE, ranking)
    product.fit(split)
    top_ten = rank(product.scores, split, part.targets.users, 10)
    return accuracy(top_ten, part.targets.relevant, (METRIC,))[:, 0]


def _read_release(releases: Releases, meta: ReleaseMeta) -> SearchLayer:
    """Return the documents of a release as a search layer whose other tables are empty."""
    documents = pa.Table.from_batches(releases.documents(meta.name))
    for column, value in (("encoder", meta.encoder), ("captioner", meta.captioner), ("attributes", None)):
        documents = documents.append_column(column, pa.array([value] * len(documents), pa.string()))
    tables = SearchTables(documents, *(pa.table({}) for _ in range(len(MODELS) - 1)))
    return SearchLayer(tables, meta.encoder, meta.dimension, meta.captioner, meta.prompt, meta.as_of)


def _as_of_cut(split: Split, search_layer: SearchLayer, query: str, ranking: Ranking) -> SearchLayer:
    """Return the documents of a search layer with all its other tables as of the moment of the split."""
    if split.tables is None or split.tables.text_recipe is None or split.profile_weights is None:
        raise UsageError("the gate needs the tables of the search layer")
    documents, cut = search_layer.tables.documents, split.tables.tables
    weights, analyzer = _to_frame(split.profile_weights, split), split.tables.analyzer
    texts = item_texts(embedded_parts(documents.select(["item_id", *PARTS]).to_pandas()), split.tables.text_recipe)
    users = _user_documents(query, cut.users, weights, documents, texts, ranking, analyzer)
    return replace(search_layer, tables=replace(cut, documents=documents, users=users), as_of=split.tables.as_of)


def _to_frame(weights: sparse.csr_array, split: Split) -> pd.DataFrame:
    """Return the weights (u, n) of the split's histories: user_id, item_id, weight."""
    cells = weights.tocoo()
    users, items = cells.coords
    return pd.DataFrame(
        {"user_id": split.user_ids[users], "item_id": split.catalogue.item_ids[items], "weight": cells.data}
    ).astype({"weight": np.float64})


def _user_documents(
    query: str,
    users: pa.Table,
    weights: pd.DataFrame,
    documents: pa.Table,
    texts: pd.DataFrame,
    ranking: Ranking,
    analyzer: Analyzer,
) -> pa.Table:
    """Return search.user_documents with vectors, histories, terms and interests computed from these documents."""
    items = documents.select(["item_id", "vector"]).to_pandas()
    weights = weights[weights["item_id"].isin(items["item_id"])]
    frames = {
        "users": users,
        "weights": weights[weights["weight"] != 0],
        "vectors": pd.concat(user_vectors(weights, items)),
        "terms": term_weights(weights, texts, ranking.terms, analyzer),
        "tastes": pd.concat(user_interests(weights, items, ranking.interests)),
    }
    with duckdb.connect() as connection:
        for name, frame in frames.items():
            connection.register(name, frame)
        connection.execute(_INPUTS)
        return connection.sql(query).order("user_id").to_arrow_table()
