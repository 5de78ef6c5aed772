import typing as t

from pandas import DataFrame
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName


@model(
    kind={"name": ModelKindName.FULL},
    grains=["item_id"],
    description="What the system of vlm4rec fit makes of each item's text and photo; no rows without such a system.",
    columns={"item_id": "TEXT", "fit": "TEXT", "vector": "FLOAT[]"},
    column_descriptions={
        "item_id": "id of an item with a text vector and a photo vector",
        "fit": "name of the fitted system and hash of its numbers",
        "vector": "vector of length 1, learned from what shoppers took up to as_of at most",
    },
    audits=[
        ("not_null", {"columns": exp.tuple_("item_id", "fit", "vector")}),
        ("unique_values", {"columns": exp.tuple_("item_id")}),
        ("unit_vectors", {"column": exp.column("vector")}),
        ("one_dimension", {"column": exp.column("vector")}),
    ],
)
def execute(context: ExecutionContext, **kwargs: t.Any) -> t.Iterator[DataFrame]:
    from vlm4rec_search.common.python_models import model_settings, yield_unless_empty
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.embeddings.fitted import fitted_items, read_fitted

    context.var("fitted")  # another fit rebuilds this table
    options = model_settings(settings(), context.var("data_dir"))
    if read_fitted(options.fitted) is None:
        return
    columns = exp.select("item_id", "encoder", "vector")
    texts = context.fetchdf(columns.from_(context.resolve_table("embeddings.item_embeddings")).order_by("item_id"))
    photos = context.fetchdf(columns.from_(context.resolve_table("embeddings.image_embeddings")).order_by("item_id"))
    moment = context.fetchdf(exp.select("as_of").from_(context.resolve_table("histories.as_of")))["as_of"]
    recipes = exp.select("recipe").distinct().from_(context.resolve_table("embeddings.item_texts"))
    recipe = context.fetchdf(recipes)["recipe"].tolist()
    as_of, is_earlier = moment.iloc[0].to_pydatetime(), options.as_of is not None
    frame = fitted_items(options.fitted, as_of, "".join(recipe), texts, photos, is_earlier)
    yield from yield_unless_empty(frame)
