import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["(item_id, captioner)"],
    description="One row for each item and captioner, with the caption of the photo or the reason why there is none.",
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
        "captioner": "captioner with its revision",
        "active": "whether this is the captioner whose captions are searched",
        "prompt": "prompt with its version",
        "image": "path or URL of the photo in the catalogue; NULL without a photo",
        "photo_hash": "sha256 of the photo's bytes; NULL if the photo cannot be read",
        "status": "ok, or the kind of reason why there is no caption",
        "caption": "description of the photo; NULL unless the status is ok",
        "error": "reason for the status, or a remark on an ok caption, such as a change to the photo",
        "answer": "answer of the captioner, whatever the status; NULL without an answer",
        "attributes": "fields of a structured answer; empty for a manual caption",
        "editor": "person who wrote a manual caption; NULL for a caption by the captioner",
        "edit_note": "note of the editor",
        "tokens_in": "tokens of prompt and photo; NULL without a model call",
        "tokens_out": "tokens of the answer; NULL without a model call",
        "seconds": "duration of the model call; NULL without a model call",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "captioner", "active", "status", "attributes")}),
        ("unique_combination_of_columns", {"columns": exp.tuple_("item_id", "captioner")}),
        ("caption_or_error", {}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.captioning.table import caption_table
    from vlm4rec_search.common.python_models import model_settings, yield_unless_empty
    from vlm4rec_search.common.settings import settings

    # A change of any variable that is named here rebuilds this table.
    context.var("photos")  # the photo files
    context.var("captioner_id")  # revisions of the captioners
    context.var("captions")  # captions, retries and photos that were made or fetched ahead of the plan
    context.var("caption_edits")  # manual captions
    context.var("caption_budget")
    columns = exp.select("item_id", "image", "title", "category")
    items = context.fetchdf(columns.from_(context.resolve_table("staging.items")).order_by("item_id"))
    options = model_settings(settings(), context.var("data_dir"))
    captioner, others = context.var("captioner"), context.var("other_captioners")
    yield from yield_unless_empty(caption_table(items, captioner, others, options))
