import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["item_id"],
    description="The exact text of each item that is embedded: the parts that the text recipe names.",
    columns={"item_id": "TEXT", "text": "TEXT", "recipe": "TEXT", "source": "TEXT"},
    column_descriptions={
        "item_id": "an item of staging.items",
        "text": "what the encoder reads; what stands first counts most",
        "recipe": "the parts in their order, such as title_details_caption",
        "source": "what stands beside the title: caption, description or details, or title alone",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "text", "recipe", "source")}),
        ("unique_values", {"columns": exp.tuple_("item_id")}),
        (
            "accepted_values",
            {
                "column": exp.column("source"),
                "is_in": exp.tuple_(
                    *map(exp.Literal.string, ("caption", "description", "details", "title")),
                ),
            },
        ),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import yield_unless_empty
    from vlm4rec_search.embeddings.recipes import embedded_parts, item_texts, read_documents

    context.var("caption_analyzer")  # another one finds other boilerplate
    context.var("recipes")  # another version of the texts rebuilds this table
    items, details = context.resolve_table("staging.items"), context.resolve_table("captions.item_details")
    parts = embedded_parts(read_documents(context.fetchdf, items, details))
    trials = exp.select("recipe").from_(context.resolve_table("embeddings.recipe_trials")).where("chosen")
    recipe = context.var("text_recipe") or context.fetchdf(trials)["recipe"][0]
    yield from yield_unless_empty(item_texts(parts, recipe))
