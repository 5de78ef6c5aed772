import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["user_id"],
    description="User-kNN: what the 200 shoppers with the most similar histories took of late (any event of positive"
    " weight, views too).",
    columns={"user_id": "TEXT", "items": "STRUCT(item_id TEXT, score DOUBLE)[]"},
    column_descriptions={
        "user_id": "the shop's id of the shopper",
        "items": "at most 100 items that similar shoppers took and the shopper did not, the largest score first; the"
        " score is the sum of cosines with the shoppers who took it, halved with the age, divided by the largest",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("user_id", "items")}),
        ("unique_values", {"columns": exp.tuple_("user_id")}),
        (
            "forall",
            {
                "criteria": exp.condition(
                    "ARRAY_LENGTH(LIST_FILTER(items, item -> NOT (item.score > 0 AND item.score <= 1))) = 0",
                    dialect="duckdb",
                )
            },
        ),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import yield_unless_empty
    from vlm4rec_search.profiles.shoppers import similar_shoppers
    from vlm4rec_search.profiles.taken import Taken

    context.var("profiles")  # another version of the arithmetic rebuilds this table
    likes = Taken.read(context.fetchdf, context.resolve_table("profiles.likes"))
    columns = exp.select("half_life_days", "shoppers_half_life_days")
    histories, taken = (
        context.fetchdf(columns.from_(context.resolve_table("profiles.pace"))).astype(float).to_numpy()[0]
    )
    for block in similar_shoppers(likes, (histories, taken)):
        yield from yield_unless_empty(block)
