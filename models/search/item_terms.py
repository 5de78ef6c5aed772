import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["(item_id, term)"],
    description="The rarest words in the text of each item (embeddings.item_texts), for which sessions search.",
    columns={
        "item_id": "TEXT",
        "term": "TEXT",
        "word": "TEXT",
        "weight": "DOUBLE",
        "rank": "INT",
        "analyzer": "TEXT",
    },
    column_descriptions={
        "item_id": "the shop's id of the item",
        "term": "token that the analyzer makes of the word",
        "word": "the most frequent spelling of the term in the catalogue",
        "weight": "1: the search itself counts rare words for more",
        "rank": "1 for the rarest term; 32 at most",
        "analyzer": "name and version of the analyzer, which follows from VLM4REC_LANGUAGE",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "term", "word", "weight", "rank", "analyzer")}),
        ("unique_combination_of_columns", {"columns": exp.tuple_("item_id", "term")}),
        ("at_least", {"column": exp.column("weight"), "bound": exp.Literal.number(0)}),
        ("at_least", {"column": exp.column("rank"), "bound": exp.Literal.number(1)}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.analyzer import load_analyzer
    from vlm4rec_search.common.python_models import yield_unless_empty
    from vlm4rec_search.profiles.item_terms import item_terms

    analyzer = load_analyzer(context.var("analyzer"))  # another one rebuilds this table
    context.var("profiles")  # a new version of the arithmetic rebuilds this table
    texts = exp.select("item_id", "text").from_(context.resolve_table("embeddings.item_texts"))
    yield from yield_unless_empty(item_terms(context.fetchdf(texts.order_by("item_id")), analyzer=analyzer))
