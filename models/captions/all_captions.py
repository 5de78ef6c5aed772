import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["(item_id, captioner)"],
    description="One row for each item and captioner: what it says of the photo, or why it says nothing.",
    columns={
        "item_id": "TEXT",
        "captioner": "TEXT",
        "active": "BOOLEAN",
        "prompt": "TEXT",
        "image": "TEXT",
        "photo_hash": "TEXT",
        "status": "TEXT",
        "caption": "TEXT",
        "error": "TEXT",
        "answer": "TEXT",
        "attributes": "JSON",
        "editor": "TEXT",
        "edit_note": "TEXT",
        "tokens_in": "INT",
        "tokens_out": "INT",
        "seconds": "DOUBLE",
    },
    column_descriptions={
        "item_id": "an item of staging.items",
        "captioner": "captioner and its revision",
        "active": "is it the captioner whose words are searched",
        "prompt": "prompt and its version",
        "image": "photo as the catalogue names it; NULL when it names none",
        "photo_hash": "sha256 of the photo's bytes; NULL when it cannot be read",
        "status": "ok, or why there is no caption",
        "caption": "the description; NULL unless the status is ok",
        "error": "what went wrong, or what was done to the photo before it was shown",
        "answer": "what the captioner said, whatever the status; NULL when it said nothing",
        "attributes": "fields of a structured answer",
        "editor": "who wrote the caption by hand; NULL when the captioner did",
        "edit_note": "what the editor noted",
        "tokens_in": "tokens of prompt and photo; NULL when no call was made",
        "tokens_out": "tokens of the answer; NULL when no call was made",
        "seconds": "time of the model call; NULL when no call was made",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "captioner", "active", "status", "attributes")}),
        ("unique_combination_of_columns", {"columns": exp.tuple_("item_id", "captioner")}),
        ("caption_or_error", {}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.captioning.table import caption_table
    from vlm4rec_search.common.python_models import ModelFolders, yield_unless_empty
    from vlm4rec_search.common.settings import settings

    context.var("photos")  # named, so that changed photos rebuild this table
    context.var("captioner_id")  # and so does another revision of a captioner
    context.var("captions")  # and so do captions, retries and photos that came in since, ahead of the plan
    context.var("caption_edits")  # and so do captions written by hand
    context.var("caption_budget")  # and so does a larger budget
    columns = exp.select("item_id", "image", "title", "category")
    items = context.fetchdf(columns.from_(context.resolve_table("staging.items")).order_by("item_id"))
    place, captioner = ModelFolders.from_settings(settings(), context.var("data_dir")), context.var("captioner")
    yield from yield_unless_empty(caption_table(items, captioner, context.var("other_captioners"), place, settings()))
