"""A plan embeds the text that the shop's own history speaks for, unless the ranking file names one."""

import yaml
from helpers.workspace import Workspace

from vlm4rec_search.search.ranking import DEFAULT


def plan_world(workspace: Workspace, world: str) -> None:
    workspace.settings |= {"VLM4REC_CAPTIONER": "tiny", "VLM4REC_ENCODER": "hashing-256"}
    workspace.vlm4rec("shop", "--world", world, "--items", "120", "--shoppers", "200", "--clean")
    workspace.plan()


def embedded_recipe(workspace: Workspace) -> str:
    ((recipe,),) = workspace.query("SELECT DISTINCT recipe FROM embeddings.item_texts")
    return str(recipe)


def test_titles_are_embedded_where_they_tell_the_taste_unless_a_ranking_file_pins_the_text(
    workspace: Workspace,
) -> None:
    plan_world(workspace, "title")
    assert embedded_recipe(workspace) == "title"
    ranking = yaml.safe_load(DEFAULT.read_text("utf-8"))
    (workspace.folder / "ranking.yaml").write_text(yaml.safe_dump({**ranking, "text": "title_description"}))
    workspace.settings["VLM4REC_RANKING"] = "ranking.yaml"
    workspace.plan()
    assert embedded_recipe(workspace) == "title_description"


def test_captions_are_embedded_where_photos_tell_the_taste(workspace: Workspace) -> None:
    plan_world(workspace, "photo")
    recipe = embedded_recipe(workspace)
    assert "caption" in recipe.split("_")
    assert workspace.query("SELECT recipe, gain > 2 * gain_error FROM embeddings.recipe_trials WHERE chosen") == [
        (recipe, True)
    ]
