"""Text recipes: which texts of an item are embedded, and in which order."""

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import pandas as pd

from vlm4rec_search.common.boilerplate import remove_boilerplate
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.python_models import nullable_texts

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
PARTS = ("title", "description", "caption", "details")
_SOURCES = ("caption", "description", "details")


def default_recipe(understands: bool) -> Recipe:
    """Return the recipe of a shop that has not chosen one.

    A caption by a captioner that understands photos stands first, as in the paper. One that only measures pixels stands
    last: at the beginning, measurements would drown the title.
    """
    return "caption_title" if understands else "title_caption"


def item_texts(documents: pd.DataFrame, recipe: str) -> pd.DataFrame:
    """Return the text of each item that is embedded.

    The parts are joined by ". ". Captions stand there without their boilerplate (`remove_boilerplate`). Where a caption
    is missing, the title stands first and the shop's description last. A text without any part is the title.

    Args:
        documents: item_id, title, description, caption, details (text or missing, but for the title).
        recipe: one of `Recipe`.

    Returns:
        item_id, text, recipe, and source: the first of caption, description and details that the text has, else title.

    Raises:
        UsageError: there is no such recipe.
    """
    if recipe not in get_args(Recipe):
        raise UsageError(f"unknown text recipe {recipe!r}: choose one of {', '.join(get_args(Recipe))}")
    texts = {part: nullable_texts(documents[part]) for part in PARTS}
    texts["caption"] = remove_boilerplate(texts["caption"])
    told = [_told(recipe.split("_"), dict(zip(PARTS, row, strict=True))) for row in zip(*texts.values(), strict=True)]
    return pd.DataFrame(
        {
            "item_id": documents["item_id"].to_numpy(),
            "text": [_joined(list(parts.values())) for parts in told],
            "recipe": recipe,
            "source": [next((part for part in _SOURCES if part in parts), "title") for parts in told],
        }
    )


def _told(parts: list[str], item: Mapping[str, str | None]) -> dict[str, str]:
    """Return the texts that an item has, by part and in the order of the recipe."""
    if "caption" in parts and not item["caption"]:
        parts = ["title", *(part for part in parts if part not in ("title", "caption")), "description"]
    return {part: text for part in parts if (text := item[part])} or {"title": item["title"] or ""}


def _joined(texts: list[str]) -> str:
    return ". ".join([*(text.rstrip(". ") for text in texts[:-1]), texts[-1]])
