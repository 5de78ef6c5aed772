import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["(user_id, rank)"],
    description="The interests of each shopper: clusters of the item vectors in the history (Ward's method).",
    columns={
        "user_id": "TEXT",
        "rank": "INT",
        "importance": "DOUBLE",
        "medoid": "TEXT",
        "items": "TEXT[]",
        "vector": "FLOAT[]",
    },
    column_descriptions={
        "user_id": "the shop's id of the shopper",
        "rank": "1 for the most important interest of the shopper",
        "importance": "share of the weights that were clustered, the shopper's 30 largest positive ones of items with a"
        " vector; the interests of a shopper sum to 1",
        "medoid": "item_id of the item that is nearest to the other items of the interest",
        "items": "item_ids of the interest; their weighted mean is the vector",
        "vector": "weighted mean of the item vectors, scaled to length 1",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("user_id", "rank", "importance", "medoid", "items", "vector")}),
        ("unique_combination_of_columns", {"columns": exp.tuple_("user_id", "rank")}),
        ("at_least", {"column": exp.column("importance"), "bound": exp.Literal.number(0)}),
        ("unit_vectors", {"column": exp.column("vector")}),
        ("one_dimension", {"column": exp.column("vector")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import model_settings, yield_unless_empty
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.profiles import read_item_vectors, read_weights, user_interests

    context.var("profiles")  # another version of the arithmetic rebuilds this table
    table = context.resolve_table("profiles.profile_weights")
    weights = read_weights(context.fetchdf, table)
    items = read_item_vectors(context.fetchdf, context.resolve_table("embeddings.item_embeddings"), table)
    cache = model_settings(settings(), context.var("data_dir")).cache
    for block in user_interests(weights, items, int(context.var("interests")), cache):
        yield from yield_unless_empty(block)
