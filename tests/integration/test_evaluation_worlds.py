"""The paper's effect in the built-in shop: there where photos tell the taste, and not where titles do."""

from pathlib import Path

import numpy as np
from helpers.interaction_logs import Log
from helpers.shop_log import shop_log

from vlm4rec_search.evaluation.results import summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.significance import Difference
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems.content import OnlyOne


def last_part(log: Log) -> Part:
    """Cut at the moment by which nine tenths of the first interactions have happened."""
    _, first = np.unique(log.users * len(log.vectors) + log.items, return_index=True)
    split = log.split(np.sort(log.times[first])[int(0.9 * len(first))], known_only=True)
    return Part(split, log.targets(split))


def description_minus(folder: Path, world: str) -> dict[str, Difference]:
    log = shop_log(folder, world, items=160, shoppers=300, seed=7, encoder="hashing-256", photos="thumbnail-8")
    systems = [OnlyOne(f"{kind}-only", kind) for kind in ("description", "title", "vision")]
    results = summarise(evaluate(Parts(None, last_part(log)), systems), {}, 7)
    return {one.b: one for one in results.differences["nDCG@10"] if one.a == "description-only"}


def test_captions_win_where_photos_tell_the_taste(tmp_path: Path) -> None:
    found = description_minus(tmp_path / "shop", "photo")
    assert found["title-only"].low > 0
    assert found["vision-only"].low > 0


def test_they_do_not_where_titles_tell_it(tmp_path: Path) -> None:
    assert description_minus(tmp_path / "shop", "title")["title-only"].high < 0
