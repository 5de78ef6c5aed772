import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["(parameter, value)"],
    description="How well each half-life and window predicts what shoppers took next, in windows of the past.",
    columns={"parameter": "TEXT", "value": "DOUBLE", "shoppers": "INT", "ndcg": "DOUBLE", "chosen": "BOOLEAN"},
    column_descriptions={
        "parameter": "a column of profiles.pace; EASE tries the first two, and the others the retriever of that name",
        "value": "the value that was tried; 36500 days forget nothing",
        "shoppers": "number of shoppers of all windows, who had a history before and took something new in it",
        "ndcg": "their mean nDCG at 10; NULL where the shop has too few shoppers to choose",
        "chosen": "whether profiles.pace uses the value",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("parameter", "value", "shoppers", "chosen")}),
        ("unique_combination_of_columns", {"columns": exp.tuple_("parameter", "value")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.profiles.pace import choose_pace
    from vlm4rec_search.profiles.taken import Events

    context.var("profiles")  # another version of the arithmetic rebuilds this table
    yield choose_pace(Events.read(context.fetchdf, context.resolve_table("profiles.likes")))
