"""The text that is embedded is what the recipe says."""

import pandas as pd
import pytest

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.embeddings.recipes import embedded_parts, item_texts, usual_recipe

ITEMS = pd.DataFrame(
    [
        ("a", "Alder tote.", "A bag.", "A navy bag.", "bags, Alder"),
        ("b", "Birch mug", "For tea.", None, None),
        ("c", "Cedar hat", None, None, None),
    ],
    columns=["item_id", "title", "description", "caption", "details"],
)


@pytest.mark.parametrize(
    ("recipe", "texts"),
    [
        ("title", ["Alder tote.", "Birch mug", "Cedar hat"]),
        ("caption", ["A navy bag.", "Birch mug. For tea.", "Cedar hat"]),
        ("caption_title", ["A navy bag. Alder tote.", "Birch mug. For tea.", "Cedar hat"]),
        ("title_details_caption", ["Alder tote. bags, Alder. A navy bag.", "Birch mug. For tea.", "Cedar hat"]),
        ("title_description", ["Alder tote. A bag.", "Birch mug. For tea.", "Cedar hat"]),
    ],
)
def test_the_parts_stand_in_the_order_of_the_recipe(recipe: str, texts: list[str]) -> None:
    assert item_texts(embedded_parts(ITEMS), recipe)["text"].tolist() == texts


def test_measurements_stand_after_the_title() -> None:
    assert (usual_recipe(understands=True), usual_recipe(understands=False)) == (
        "caption_title",
        "title_caption",
    )


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown text recipe 'titel': choose one of title, title_details"):
        item_texts(ITEMS, "titel")
