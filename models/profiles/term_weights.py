import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["(user_id, term)"],
    description="The words of each shopper: terms of the texts (embeddings.item_texts) of the items in the history.",
    columns={"user_id": "TEXT", "term": "TEXT", "word": "TEXT", "weight": "DOUBLE", "rank": "INT"},
    column_descriptions={
        "user_id": "the shop's id of the shopper",
        "term": "token that the analyzer makes of the word",
        "word": "the most frequent spelling of the term in the catalogue",
        "weight": "sum of the profile weights of the items with the term, divided by the largest; up to 1",
        "rank": "1 for the largest product of weight and rarity",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("user_id", "term", "word", "weight", "rank")}),
        ("unique_combination_of_columns", {"columns": exp.tuple_("user_id", "term")}),
        ("at_least", {"column": exp.column("weight"), "bound": exp.Literal.number(0)}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.analyzer import load_analyzer
    from vlm4rec_search.common.python_models import yield_unless_empty
    from vlm4rec_search.profiles import read_weights, term_weights

    analyzer = load_analyzer(context.var("analyzer"))  # another one rebuilds this table
    context.var("profiles")  # another version of the arithmetic rebuilds this table
    weights = read_weights(context.fetchdf, context.resolve_table("profiles.profile_weights"))
    per_user = int(context.var("terms"))
    texts = exp.select("item_id", "text").from_(context.resolve_table("embeddings.item_texts"))
    yield from yield_unless_empty(term_weights(weights, context.fetchdf(texts.order_by("item_id")), per_user, analyzer))
