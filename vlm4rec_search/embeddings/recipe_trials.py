"""Chooses the text recipe of a shop on its own history.

No order of title and caption is best everywhere: in one shop photos tell the taste, in another titles do. For each
recipe, the texts of the items that most shoppers took are embedded, and the mean profile predicts what shoppers took
next, in several windows of the past. What is paid is bounded, and the result cache keeps it.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from vlm4rec_search.common import maven
from vlm4rec_search.common.vectors import Floats, Texts, Vectors
from vlm4rec_search.embeddings.recipes import Recipe, embedded_parts, item_texts
from vlm4rec_search.embeddings.tables import embed_texts
from vlm4rec_search.profiles.histories import stack_vectors
from vlm4rec_search.profiles.taken import Events
from vlm4rec_search.profiles.trials import FEWEST_SHOPPERS, USERS, Window, choose, is_better, windows

TITLE: Recipe = "title"
TRIED: tuple[Recipe, ...] = (
    TITLE,
    "title_description",
    "title_details",
    "title_caption",
    "caption_title",
    "title_details_caption",
)
"""The recipes, simple ones first. All have the title, so that a typed title finds its item."""
ITEMS = 600  # the most items whose texts are embedded for each recipe
_TABLES = ("embeddings.recipe_trials", "histories.as_of")
# Where too few shoppers could be asked, a second row says that the recipe was chosen by earlier trials.
_FORMER = """
SELECT trials.recipe, moment.as_of
FROM embeddings.recipe_trials AS trials CROSS JOIN histories.as_of AS moment
WHERE trials.chosen AND (NOT trials.ndcg IS NULL OR (SELECT COUNT(*) FROM embeddings.recipe_trials) > 1)
"""
COLUMNS = ["recipe", "shoppers", "ndcg", "gain", "gain_error", "chosen"]


def choose_recipe(
    events: Events,
    documents: pd.DataFrame,
    half_life: float,
    usual: str,
    encoder: str,
    cache: Path,
    weights_source: str = maven.CENTRAL,
    in_force: str | None = None,
) -> pd.DataFrame:
    """Return the trials of recipes, of which one is chosen.

    A trial's `ndcg` is the mean nDCG@10 of the cosine with the mean profile, over the shoppers of all windows. The
    first recipe of `TRIED` is chosen that is within one standard error of the best (`trials.choose`) and not below
    titles alone. The recipe in force stays unless the 95% interval of the other's gain over it, paired over shoppers,
    lies above 0. A recipe that makes the same texts as an earlier one is not tried. Without `FEWEST_SHOPPERS` shoppers
    the recipe in force or the usual one is chosen, with `ndcg` missing; the usual one then has a row in any case.

    Args:
        events: who took what of `documents`, and how long ago each time.
        documents: of the whole catalogue, as in `embedded_parts`.
        half_life: of the events of a profile, in days.
        usual: the recipe of a shop with too little history to choose.
        encoder: name of the sentence encoder.
        cache: folder of the results of model calls.
        weights_source: as in `load_sentence_encoder`.
        in_force: the recipe that earlier trials chose.

    Returns:
        recipe, shoppers, ndcg, gain (the mean difference from titles alone), gain_error (its standard error), chosen.

    Raises:
        UsageError, RunError: as `embed_texts`.
    """
    events = events.some_users(USERS).popular_items(ITEMS)
    past = list(windows(events, ITEMS))
    shoppers = sum(len(window.asked) for window in past)
    if shoppers < FEWEST_SHOPPERS:
        kept = in_force or usual
        untried = [(recipe, shoppers, None, None, None, recipe == kept) for recipe in dict.fromkeys((kept, usual))]
        return pd.DataFrame(untried, columns=COLUMNS)
    parts = embedded_parts(documents).set_index("item_id", drop=False).loc[list(events.item_ids)]
    texts = _distinct_texts(parts)
    vectors = stack_vectors(embed_texts(pd.concat(texts.values()), encoder, cache, weights_source)["vector"])
    values = {
        recipe: np.concatenate([_ndcg(window, events.item_ids, of_recipe, half_life) for window in past])
        for recipe, of_recipe in zip(texts, np.split(vectors, len(texts)), strict=True)
    }
    gains = {recipe: each - values[TITLE] for recipe, each in values.items()}
    chosen = choose({recipe: values[recipe] for recipe, gain in gains.items() if gain.mean() >= 0.0})
    if in_force in values and not is_better(values[chosen] - values[in_force]):
        chosen = in_force
    rows = [
        (
            recipe,
            shoppers,
            float(values[recipe].mean()),
            float(gain.mean()),
            float(gain.std() / np.sqrt(len(gain))),
            recipe == chosen,
        )
        for recipe, gain in gains.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def recipe_in_force(
    query: Callable[[str], pd.DataFrame], exists: Callable[[str], bool], as_of: datetime | None
) -> str | None:
    """Return the recipe that the former trials of the warehouse chose, None where they could not choose.

    Trials as of a later moment than `as_of` know what happened afterwards and do not count.

    Args:
        query: returns the rows of a query on the warehouse; while a plan runs, the tables of prod are the former ones.
        exists: returns whether the warehouse has a table.
        as_of: moment of the new trials.
    """
    if not all(map(exists, _TABLES)):
        return None
    former = query(_FORMER)
    known = as_of is not None and len(former) and former["as_of"][0] <= as_of
    return str(former["recipe"][0]) if known else None


def _distinct_texts(parts: pd.DataFrame) -> dict[Recipe, pd.DataFrame]:
    """Return the texts of each recipe that differs from those before it."""
    found: dict[Recipe, pd.DataFrame] = {}
    for recipe in TRIED:
        texts = item_texts(parts, recipe)
        if not any(texts["text"].equals(other["text"]) for other in found.values()):
            found[recipe] = texts
    return found


def _ndcg(window: Window, item_ids: Texts, vectors: Vectors, half_life: float) -> Floats:
    """Return nDCG@10 of each asked shopper; a profile need not have length 1, which changes no order."""
    of_window = vectors[np.searchsorted(item_ids, window.before.item_ids)]
    profiles = window.before.matrix(half_life)[window.asked] @ of_window
    return window.ndcg(profiles @ of_window.T)
