import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["item_id"],
    description="One row for each item: what the captioner says of its photo, or why it says nothing.",
    columns={
        "item_id": "TEXT",
        "image": "TEXT",
        "photo_hash": "TEXT",
        "status": "TEXT",
        "caption": "TEXT",
        "error": "TEXT",
        "captioner": "TEXT",
        "prompt": "TEXT",
    },
    column_descriptions={
        "item_id": "an item of staging.items",
        "image": "photo as the catalogue names it; NULL when it names none",
        "photo_hash": "sha256 of the photo's bytes; NULL when it cannot be read",
        "status": "ok, or why there is no caption",
        "caption": "the description; NULL unless the status is ok",
        "error": "what went wrong, or what was done to the photo before it was shown",
        "captioner": "captioner and its revision",
        "prompt": "prompt and its version",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "status", "captioner")}),
        ("unique_values", {"columns": exp.tuple_("item_id")}),
        ("caption_or_error", {}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.captions import caption_items
    from vlm4rec_search.project import folders, unless_empty
    from vlm4rec_search.settings import settings

    context.var("photos")  # named, so that changed photos rebuild this table
    context.var("captioner_id")  # and so does another revision of the captioner
    columns = exp.select("item_id", "image", "title", "category")
    items = context.fetchdf(columns.from_(context.resolve_table("staging.items")).order_by("item_id"))
    place = folders(settings(), context.var("data_dir"))
    yield from unless_empty(caption_items(items, context.var("captioner"), place.photos, place.cache))
