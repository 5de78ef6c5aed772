"""The text that is embedded is the one that predicts what shoppers took next."""

from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from vlm4rec_search.embeddings.recipe_trials import choose_recipe, recipe_in_force
from vlm4rec_search.profiles.taken import Events

GROUPS = ("oak", "wool", "clay")
# Shopper and group take ten items in turn, seven of them long ago and one in each of three windows.
DAYS = [*[100.0] * 7, 25.0, 15.0, 5.0]
LIKES = pd.DataFrame(
    [
        (f"u{shopper:02d}", f"{shopper % 3}{(shopper // 3 + turn) % 10}", days)
        for shopper in range(60)
        for turn, days in enumerate(DAYS)
    ],
    columns=["user_id", "item_id", "days"],
)
ITEMS = [
    (f"{group}{number}", name, f"word{group}{number}") for group, name in enumerate(GROUPS) for number in range(10)
]


def catalogue(telling: str, other: str) -> pd.DataFrame:
    """Return items whose column `telling` names the group, and `other` nothing that items share."""
    frame = pd.DataFrame(ITEMS, columns=["item_id", telling, other])
    return frame.assign(description=None, details=None)


def trials(
    documents: pd.DataFrame, cache: Path, in_force: str | None = None, likes: pd.DataFrame = LIKES
) -> pd.DataFrame:
    found = choose_recipe(
        Events.from_likes(likes), documents, 30.0, "title_caption", "hashing-4096", cache, in_force=in_force
    )
    return found.set_index("recipe")


def test_titles_are_chosen_where_they_tell_the_taste(tmp_path: Path) -> None:
    """The unseen items of the group tie, and the one that is taken next is the first of them by id.

    But for two of ten turns of the first window, where it is the second and the third, and one of the second window.
    """
    found = trials(catalogue("title", "caption"), tmp_path)
    assert found.index[found["chosen"]].tolist() == ["title"]
    second, third = 0.6309, 0.5  # 1 / log2(rank + 1)
    assert found["ndcg"]["title"] == pytest.approx(((8 + second + third) + (9 + second) + 10) / 30, abs=1e-3)
    assert found["shoppers"].tolist() == [180] * len(found)
    assert found["gain"]["title_caption"] == pytest.approx(0.0), "as good, but not as simple"


def test_captions_are_chosen_where_they_tell_the_taste(tmp_path: Path) -> None:
    found = trials(catalogue("caption", "title"), tmp_path)
    assert found.index[found["chosen"]].tolist() == ["title_caption"]
    assert found["ndcg"]["title_caption"] == pytest.approx(found["ndcg"]["caption_title"])
    assert found["gain"]["title_caption"] > 10 * found["gain_error"]["title_caption"] > 0


def test_a_recipe_that_makes_the_same_texts_is_not_tried(tmp_path: Path) -> None:
    found = trials(catalogue("title", "caption").assign(caption=None), tmp_path)
    assert found.index.tolist() == ["title"]


def test_the_recipe_in_force_stays_unless_another_is_better_beyond_chance(tmp_path: Path) -> None:
    telling = catalogue("title", "caption")
    found = trials(telling, tmp_path, "title_caption")
    assert found.index[found["chosen"]].tolist() == ["title_caption"], "titles alone are as good"
    found = trials(catalogue("caption", "title"), tmp_path, "title")
    assert found.index[found["chosen"]].tolist() == ["title_caption"], "captions are better"
    found = trials(telling.assign(caption=None), tmp_path, "title_caption")
    assert found.index[found["chosen"]].tolist() == ["title"], "there is nothing but titles"
    found = trials(telling, tmp_path, "title", LIKES.head(30))
    assert found["chosen"].to_dict() == {"title": True, "title_caption": False}, "it outlives its history"
    assert trials(telling, tmp_path, None, LIKES.head(30)).index.tolist() == ["title_caption"], "the usual one"


def test_the_recipe_in_force_is_that_of_the_former_tables() -> None:
    with duckdb.connect() as connection:

        def in_force(as_of: datetime | None) -> str | None:
            tables = {f"{layer}.{name}" for layer, name in connection.execute(views).fetchall()}
            return recipe_in_force(lambda sql: connection.sql(sql).df(), tables.__contains__, as_of)

        views = "SELECT schema_name, view_name FROM duckdb_views()"
        moment = datetime(2025, 3, 1)
        assert in_force(moment) is None, "the first plan"
        connection.execute("""
            CREATE SCHEMA embeddings;
            CREATE SCHEMA histories;
            CREATE TABLE trials AS FROM (VALUES ('title', 0.1, FALSE), ('title_caption', 0.2, TRUE))
                AS rows(recipe, ndcg, chosen);
            CREATE VIEW embeddings.recipe_trials AS FROM trials;
            CREATE VIEW histories.as_of AS SELECT TIMESTAMP '2025-03-01' AS as_of;
        """)
        assert in_force(moment) == "title_caption"
        assert in_force(datetime(2025, 2, 1)) is None, "what was chosen later says too much"
        connection.execute("UPDATE trials SET ndcg = NULL")
        assert in_force(moment) == "title_caption", "carried over: the usual one stands beside it"
        connection.execute("DELETE FROM trials WHERE NOT chosen")
        assert in_force(moment) is None, "a shop with too little history has chosen nothing"
