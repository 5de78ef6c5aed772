import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["recipe"],
    description="How well each text recipe predicts what shoppers took next, in windows of the past.",
    columns={
        "recipe": "TEXT",
        "shoppers": "INT",
        "ndcg": "DOUBLE",
        "gain": "DOUBLE",
        "gain_error": "DOUBLE",
        "chosen": "BOOLEAN",
    },
    column_descriptions={
        "recipe": "the parts in their order; one that makes the same texts as a simpler one is not tried",
        "shoppers": "number of shoppers of all windows, who had a history before and took something new in it",
        "ndcg": "their mean nDCG at 10 of cosine and profile; NULL where the shop has too few shoppers to choose",
        "gain": "mean difference from titles alone",
        "gain_error": "standard error of the gain",
        "chosen": "whether embeddings.item_texts uses the recipe, unless the ranking file names one; the one that was"
        " chosen before stays unless another is better beyond chance",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("recipe", "shoppers", "chosen")}),
        ("unique_values", {"columns": exp.tuple_("recipe")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import model_settings
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.embeddings.recipe_trials import choose_recipe, recipe_in_force
    from vlm4rec_search.embeddings.recipes import read_documents
    from vlm4rec_search.profiles.taken import Events

    context.var("caption_analyzer")  # another one finds other boilerplate
    context.var("encoder_id")  # another encoder, or another revision of it, rebuilds this table
    context.var("recipes")  # another version of the texts, or of the choice, rebuilds this table
    items, details = context.resolve_table("staging.items"), context.resolve_table("captions.item_details")
    moment = context.fetchdf(exp.select("as_of").from_(context.resolve_table("histories.as_of")))["as_of"][0]
    pace = context.fetchdf(exp.select("half_life_days").from_(context.resolve_table("profiles.pace")))
    options = model_settings(settings(), context.var("data_dir"))

    def exists(table: str) -> bool:
        layer, name = table.split(".")
        return bool(context.engine_adapter.get_data_objects(layer, {name}))

    yield choose_recipe(
        Events.read(context.fetchdf, context.resolve_table("profiles.likes")),
        read_documents(context.fetchdf, items, details),
        float(pace["half_life_days"][0]),
        context.var("usual_recipe"),
        context.var("encoder"),
        options.cache,
        options.weights,
        recipe_in_force(context.fetchdf, exists, moment),
    )
