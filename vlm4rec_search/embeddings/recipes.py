"""Text recipes: which texts of an item are embedded, and in which order."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from vlm4rec_search.common.boilerplate import remove_boilerplate, remove_sentences_of_the_shop
from vlm4rec_search.common.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from sqlglot import exp

Recipe: TypeAlias = Literal[
    "title",
    "title_details",
    "title_description",
    "title_caption",
    "title_details_caption",
    "title_details_description",
    "caption",
    "caption_title",
    "caption_title_details",
]
"""The parts of a text, first to last. An encoder gives most weight to the beginning of a text."""
VERSION = 2  # raise it when the texts of a recipe change, or the choice of one
PARTS = ("title", "description", "caption", "details")
_SOURCES = ("caption", "description", "details")


def usual_recipe(understands: bool) -> Recipe:
    """Return the recipe of a shop with too little history to choose one.

    A caption by a captioner that understands photos stands first, as in the paper. One that only measures pixels stands
    last: at the beginning, measurements would drown the title.
    """
    return "caption_title" if understands else "title_caption"


def read_documents(fetch: "Callable[[exp.Expr], pd.DataFrame]", items: str, details: str) -> "pd.DataFrame":
    """Return the documents of the whole catalogue for `embedded_parts`, by item id.

    Args:
        fetch: returns the rows of a query.
        items: name of staging.items.
        details: name of captions.item_details, which need not have every item.
    """
    from sqlglot import exp

    columns = exp.select("items.item_id", "items.title", "items.description", "told.caption", "told.details")
    documents = columns.from_(f"{items} AS items").join(f"{details} AS told", using="item_id", join_type="left")
    return fetch(documents.order_by("items.item_id"))


def embedded_parts(documents: "pd.DataFrame") -> "pd.DataFrame":
    """Return what a recipe may name of each item: the documents, without the boilerplate of captions and descriptions.

    Args:
        documents: of the whole catalogue, since what many texts share is boilerplate (`remove_boilerplate`,
            `remove_sentences_of_the_shop`): item_id, title, description, caption, details (text or missing, but for the
            title).
    """
    import pandas as pd

    from vlm4rec_search.common.python_models import nullable_texts

    cleaned = {
        "caption": remove_boilerplate(nullable_texts(documents["caption"])),
        "description": remove_sentences_of_the_shop(
            nullable_texts(documents["description"]), nullable_texts(documents["title"])
        ),
    }
    return documents.assign(
        **{part: pd.Series(texts, index=documents.index, dtype=object) for part, texts in cleaned.items()}
    )


def item_texts(parts: "pd.DataFrame", recipe: str) -> "pd.DataFrame":
    """Return the text of each item that is embedded.

    The parts are joined by ". ". Where a caption is missing, the title stands first and the shop's description last. A
    text without any part is the title.

    Args:
        parts: of some items, from `embedded_parts`.
        recipe: one of `Recipe`.

    Returns:
        item_id, text, recipe, and source: the first of caption, description and details that the text has, else title.

    Raises:
        UsageError: there is no such recipe.
    """
    import pandas as pd

    from vlm4rec_search.common.python_models import nullable_texts

    if recipe not in get_args(Recipe):
        raise UsageError(f"unknown text recipe {recipe!r}: choose one of {', '.join(get_args(Recipe))}")
    rows = zip(*(nullable_texts(parts[part]) for part in PARTS), strict=True)
    told = [_told(recipe.split("_"), dict(zip(PARTS, row, strict=True))) for row in rows]
    return pd.DataFrame(
        {
            "item_id": parts["item_id"].to_numpy(),
            "text": [_joined(list(texts.values())) for texts in told],
            "recipe": recipe,
            "source": [next((part for part in _SOURCES if part in texts), "title") for texts in told],
        }
    )


def _told(parts: list[str], item: Mapping[str, str | None]) -> dict[str, str]:
    """Return the texts that an item has, by part and in the order of the recipe."""
    if "caption" in parts and not item["caption"]:
        parts = ["title", *(part for part in parts if part not in ("title", "caption")), "description"]
    return {part: text for part in parts if (text := item[part])} or {"title": item["title"] or ""}


def _joined(texts: list[str]) -> str:
    return ". ".join([*(text.rstrip(". ") for text in texts[:-1]), texts[-1]])
