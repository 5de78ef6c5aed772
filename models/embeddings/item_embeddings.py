import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["item_id"],
    description="One unit vector for each item: the sentence encoder's reading of embeddings.item_texts.",
    columns={"item_id": "TEXT", "encoder": "TEXT", "text_hash": "TEXT", "vector": "FLOAT[]"},
    column_descriptions={
        "item_id": "an item of embeddings.item_texts",
        "encoder": "encoder and its revision",
        "text_hash": "sha256 of the text that was embedded",
        "vector": "unit vector",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "encoder", "vector")}),
        ("unique_values", {"columns": exp.tuple_("item_id")}),
        ("unit_vectors", {"column": exp.column("vector")}),
        ("one_dimension", {"column": exp.column("vector")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.frames import folders, unless_empty
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.embeddings.tables import embed_texts

    context.var("encoder_id")  # named, so that another revision of the encoder rebuilds this table
    columns = exp.select("item_id", "text")
    texts = context.fetchdf(columns.from_(context.resolve_table("embeddings.item_texts")).order_by("item_id"))
    yield from unless_empty(
        embed_texts(texts, context.var("encoder"), folders(settings(), context.var("data_dir")).cache)
    )
