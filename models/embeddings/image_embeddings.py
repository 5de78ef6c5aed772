import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["item_id"],
    description="The vector of each item's photo, by the image encoder; no row for an item without a readable photo.",
    columns={"item_id": "TEXT", "encoder": "TEXT", "photo_hash": "TEXT", "vector": "FLOAT[]"},
    column_descriptions={
        "item_id": "id of an item in staging.items whose photo is readable",
        "encoder": "name and revision of the image encoder",
        "photo_hash": "sha256 of the bytes of the photo, in hex",
        "vector": "vector of length 1",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "photo_hash", "vector")}),
        ("unique_values", {"columns": exp.tuple_("item_id")}),
        ("unit_vectors", {"column": exp.column("vector")}),
        ("one_dimension", {"column": exp.column("vector")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import model_settings, yield_unless_empty
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.photos.locate import plan_remote
    from vlm4rec_search.embeddings.tables import embed_photos

    context.var("photos")  # changed photos rebuild this table
    context.var("image_encoder_id")  # another encoder, or another revision of it, rebuilds this table
    columns = exp.select("item_id", "image")
    items = context.fetchdf(columns.from_(context.resolve_table("staging.items")).order_by("item_id"))
    options = model_settings(settings(), context.var("data_dir"))
    encoder, remote = context.var("image_encoder"), plan_remote(options)
    frame = embed_photos(items, encoder, options.data_dir, options.cache, remote, context.spark)
    yield from yield_unless_empty(frame)
