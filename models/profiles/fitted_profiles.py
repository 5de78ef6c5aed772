import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["user_id"],
    description="The learned vector of each shopper: as profiles.user_profiles, of embeddings.fitted_items.",
    columns={"user_id": "TEXT", "items": "INT", "length": "DOUBLE", "vector": "FLOAT[]"},
    column_descriptions={
        "user_id": "the shop's id of the shopper",
        "items": "number of items behind the vector, including items with a negative weight",
        "length": "length of the weighted sum of item vectors, before scaling to length 1",
        "vector": "weighted sum of the item vectors, scaled to length 1",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("user_id", "items", "length", "vector")}),
        ("unique_values", {"columns": exp.tuple_("user_id")}),
        ("unit_vectors", {"column": exp.column("vector")}),
        ("one_dimension", {"column": exp.column("vector")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import model_settings, yield_unless_empty
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.profiles import read_item_vectors, read_weights, user_vectors

    context.var("profiles")  # another version of the arithmetic rebuilds this table
    table = context.resolve_table("profiles.profile_weights")
    items = read_item_vectors(context.fetchdf, context.resolve_table("embeddings.fitted_items"), table)
    if items.empty:
        return
    weights = read_weights(context.fetchdf, table)
    cache = model_settings(settings(), context.var("data_dir")).cache
    for block in user_vectors(weights, items, cache):
        yield from yield_unless_empty(block)
