import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["item_id"],
    description="The vector of each item's text in embeddings.item_texts, made by the sentence encoder.",
    columns={"item_id": "TEXT", "encoder": "TEXT", "text_hash": "TEXT", "vector": "FLOAT[]"},
    column_descriptions={
        "item_id": "id of an item in embeddings.item_texts",
        "encoder": "name and revision of the sentence encoder",
        "text_hash": "sha256 of the encoded text (UTF-8), in hex",
        "vector": "vector of length 1",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "encoder", "vector")}),
        ("unique_values", {"columns": exp.tuple_("item_id")}),
        ("unit_vectors", {"column": exp.column("vector")}),
        ("one_dimension", {"column": exp.column("vector")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import batches, model_settings, yield_unless_empty
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.embeddings.tables import embed_texts

    context.var("encoder_id")  # another encoder, or another revision of it, rebuilds this table
    columns = exp.select("item_id", "text")
    texts = context.fetchdf(columns.from_(context.resolve_table("embeddings.item_texts")).order_by("item_id"))
    options = model_settings(settings(), context.var("data_dir"))
    for batch in batches(texts):  # the vectors of a large catalogue do not fit into memory
        frame = embed_texts(batch, context.var("encoder"), options.cache, options.weights, context.spark)
        yield from yield_unless_empty(frame)
