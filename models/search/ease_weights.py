import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["(item_id, neighbour_id)"],
    description="EASE: how much an item in a history speaks for another item, or against it, by all histories.",
    columns={"item_id": "TEXT", "neighbour_id": "TEXT", "weight": "DOUBLE", "rank": "INT"},
    column_descriptions={
        "item_id": "an item that somebody took: any event of positive weight, views too",
        "neighbour_id": "another item that somebody took",
        "weight": "weight of the item in the score of the neighbour; negative where the item speaks against it",
        "rank": "1 for the largest absolute weight of the item; 100 at most",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "neighbour_id", "weight", "rank")}),
        ("unique_combination_of_columns", {"columns": exp.tuple_("item_id", "neighbour_id")}),
        ("forall", {"criteria": exp.condition("ABS(weight) < 1e308 AND item_id <> neighbour_id")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import yield_unless_empty
    from vlm4rec_search.profiles.ease import ease_weights
    from vlm4rec_search.profiles.taken import Taken

    context.var("profiles")  # another version of the arithmetic rebuilds this table
    likes = Taken.read(context.fetchdf, context.resolve_table("profiles.likes"))
    columns = exp.select("half_life_days", "behaviour_half_life_days", "regularisation")
    history, taken, regularisation = (
        context.fetchdf(columns.from_(context.resolve_table("profiles.pace"))).astype(float).to_numpy()[0]
    )
    yield from yield_unless_empty(ease_weights(likes, (history, taken), regularisation))
