import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["(item_id, neighbour_id)"],
    description="Co-purchases: for each item, the 50 items whose recent shoppers overlap most with its own. An event of"
    " any kind with a positive weight counts, views too.",
    columns={"item_id": "TEXT", "neighbour_id": "TEXT", "similarity": "DOUBLE", "rank": "INT"},
    column_descriptions={
        "item_id": "an item that somebody took in the last co_purchase_days days (profiles.pace)",
        "neighbour_id": "another item that at least one of the same shoppers took in these days",
        "similarity": "cosine of the two sets of shoppers, shrunk where few share both: n"
        " / sqrt(shoppers of the item x shoppers of the neighbour) x n / (n + 2) with n shoppers of both items; an item"
        " has those shoppers among whose latest 100 items it is",
        "rank": "1 for the most similar neighbour; 50 at most",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "neighbour_id", "similarity", "rank")}),
        ("unique_combination_of_columns", {"columns": exp.tuple_("item_id", "neighbour_id")}),
        (
            "forall",
            {"criteria": exp.condition("similarity > 0 AND similarity < 1.000001 AND item_id <> neighbour_id")},
        ),
        ("at_least", {"column": exp.column("rank"), "bound": exp.Literal.number(1)}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import yield_unless_empty
    from vlm4rec_search.profiles.neighbours import item_neighbours
    from vlm4rec_search.profiles.taken import Taken

    context.var("profiles")  # another version of the arithmetic rebuilds this table
    likes = Taken.read(context.fetchdf, context.resolve_table("profiles.likes"))
    pace = context.fetchdf(exp.select("co_purchase_days").from_(context.resolve_table("profiles.pace")))
    for block in item_neighbours(likes, float(pace["co_purchase_days"][0])):
        yield from yield_unless_empty(block)
