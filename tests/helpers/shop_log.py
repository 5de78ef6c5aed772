"""The built-in shop as a log of arrays, described by the small model that comes with the package."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.interaction_logs import Log
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.captioning.table import caption_items
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.demo_shop.build import build_shop
from vlm4rec_search.embeddings.tables import embed_photos, embed_texts


def shop_log(folder: Path, world: str, items: int, shoppers: int, seed: int, encoder: str, photos: str) -> Log:
    """Return the log of a clean shop; `vectors` are those of the captions, `others` those of titles and photos."""
    build_shop(folder, world, items, shoppers, seed, dirty=False)
    catalogue = pd.read_csv(folder / "items.csv", dtype=str)
    log = pd.read_csv(folder / "interactions.csv.gz", dtype={"user_id": str, "item_id": str})
    cache = folder / "cache"
    told = caption_items(catalogue, load_captioner("tiny", Settings()), folder, cache)["caption"]
    kinds = {
        "description": embed_texts(pd.DataFrame({"item_id": catalogue["item_id"], "text": told}), encoder, cache),
        "title": embed_texts(catalogue[["item_id"]].assign(text=catalogue["title"]), encoder, cache),
        "vision": embed_photos(catalogue, photos, folder, cache),
    }
    vectors = {kind: np.stack(list(frame["vector"])) for kind, frame in kinds.items()}
    users = pd.factorize(log["user_id"], sort=True)[0].astype(np.int64)
    rows = pd.Index(catalogue["item_id"]).get_indexer(pd.Index(log["item_id"])).astype(np.int64)
    times = pd.to_datetime(log["timestamp"], utc=True).dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return Log(users, rows, times, vectors.pop("description"), vectors)
