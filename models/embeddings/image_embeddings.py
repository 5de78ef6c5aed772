import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["item_id"],
    description="One unit vector for each item with a readable photo: the image encoder's reading of its pixels.",
    columns={"item_id": "TEXT", "encoder": "TEXT", "photo_hash": "TEXT", "vector": "FLOAT[]"},
    column_descriptions={
        "item_id": "an item of staging.items whose photo can be read",
        "encoder": "image encoder and its revision",
        "photo_hash": "sha256 of the photo's bytes",
        "vector": "unit vector",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "photo_hash", "vector")}),
        ("unique_values", {"columns": exp.tuple_("item_id")}),
        ("unit_vectors", {"column": exp.column("vector")}),
        ("one_dimension", {"column": exp.column("vector")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.captioning.table import plan_remote
    from vlm4rec_search.common.frames import folders, unless_empty
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.embeddings.tables import embed_photos

    context.var("photos")  # named, so that changed photos rebuild this table
    context.var("image_encoder_id")  # and so does another revision of the encoder
    columns = exp.select("item_id", "image")
    items = context.fetchdf(columns.from_(context.resolve_table("staging.items")).order_by("item_id"))
    place = folders(settings(), context.var("data_dir"))
    encoder, remote = context.var("image_encoder"), plan_remote(settings())
    yield from unless_empty(embed_photos(items, encoder, place.photos, place.cache, remote))
