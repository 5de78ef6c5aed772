"""The product's rows of an evaluation, by searches in a release of the built-in shop."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.search_tables import made, shop_tables
from scipy import sparse

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.data import Catalogue, Split, Targets, incidence
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems.content import OnlyOne
from vlm4rec_search.evaluation.systems.product import OracleOfLegs, Product
from vlm4rec_search.indexes.search_layer import SearchLayer, SearchTables
from vlm4rec_search.search.ranking import load_ranking

MOMENT = np.datetime64("2025-02-01", "us")


def shop_split() -> Split:
    """Return the built-in shop, in which one item of eight has a photo."""
    given = shop_tables()
    frames = {field.name: getattr(given, field.name) for field in fields(given)}
    frames["documents"] = frames["documents"].sort_values("item_id")
    arrow = {
        name: pa.Table.from_pandas(frame, preserve_index=False) if isinstance(frame, pd.DataFrame) else frame
        for name, frame in frames.items()
    }
    meta, documents = made(), frames["documents"]
    layer = SearchLayer(SearchTables(**arrow), meta.encoder, meta.dimension, meta.captioner, meta.prompt, None)
    ids, titles = (documents[name].to_numpy(dtype=object) for name in ("item_id", "title"))
    vectors = np.stack(documents["vector"].tolist()).astype(np.float32)
    with_photo = np.arange(len(ids)) % 8 == 0
    photos = np.where(with_photo[:, None], vectors, np.float32(0))
    catalogue = Catalogue(ids, titles, np.full(len(ids), None, dtype=object), {"document": vectors, "vision": photos})
    seen = frames["users"].explode("seen").dropna(subset=["seen"])
    user_ids = np.array(sorted(seen["user_id"].unique()), dtype=object)
    users = pd.Index(user_ids).get_indexer(pd.Index(seen["user_id"])).astype(np.int64)
    items = catalogue.positions(seen["seen"].to_numpy(dtype=object))
    shape = (len(user_ids), len(ids))
    return Split(
        catalogue=catalogue,
        user_ids=user_ids,
        users=users,
        items=items,
        times=np.full(len(users), MOMENT),
        weights=incidence(users, items, shape),
        as_of=MOMENT,
        candidates=np.ones(len(ids), dtype=np.bool_),
        tables=layer,
    )


def test_tables_without_learned_vectors_say_what_helps_and_where_nothing_does() -> None:
    split = shop_split()
    assert split.tables is not None
    tables = replace(split.tables.tables, fitted=split.tables.tables.fitted.slice(0, 0))
    bare = replace(split, tables=replace(split.tables, tables=tables))
    with pytest.raises(UsageError, match="run `vlm4rec fit`; --protocol leave-one-out and simulated worlds use none"):
        Product("product-fitted", "fitted").fit(bare)


def test_where_photos_are_few_the_product_searches_among_the_items_that_have_one() -> None:
    """The first 50 hits among all items hold about six of them."""
    split = shop_split()
    with_photo = split.catalogue.covered("vision")
    wanted = (1 - split.seen.toarray()) * with_photo
    part = Part(split, Targets(np.arange(split.shape[0]), sparse.csr_array(wanted.astype(np.float32))))
    ranking = load_ranking().model_copy(update={"depth": 50})
    found = evaluate(
        Parts(None, part),
        [Product("product-semantic", "semantic", ranking), OracleOfLegs(ranking), OnlyOne("vision-only", "vision")],
    )
    whole, matched = found.comparisons
    lengths = {outcome.system: (outcome.ranking >= 0).sum(axis=1) for outcome in matched.outcomes}
    assert matched.on == "what vision-only covers"
    for system in ("product-semantic", "oracle-of-legs"):
        assert (lengths[system] == wanted.sum(axis=1)).all(), system
    assert (whole.outcomes[0].ranking >= 0).sum(axis=1).tolist() == [50] * split.shape[0]
