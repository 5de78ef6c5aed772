"""A captioner that says how wide a photo is, with items and photos for it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from vlm4rec_search.captioning.base import Caption, Captioner, Context


class SizeCaptioner(Captioner):
    """Answers with the width of the photo and the prompt; fails for a photo of width 13 and for its whole batch."""

    id = "size@1"
    prompt = "category-1"
    batch_size = 2

    def __init__(self) -> None:
        self.calls: list[int] = []

    def render(self, context: Context) -> str:
        return context.category

    def caption(self, photos: Sequence[Image.Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        self.calls.append(len(photos))
        if any(photo.width == 13 for photo in photos):
            raise ValueError("13 is unlucky")
        return [Caption(f" {photo.width} wide\n{prompt} ") for photo, prompt in zip(photos, prompts, strict=True)]


def make_items(*rows: tuple[str, str | None]) -> pd.DataFrame:
    items = [(item, image, f"Title of {item}", "bags") for item, image in rows]
    return pd.DataFrame(items, columns=["item_id", "image", "title", "category"])


def save_photo(folder: Path, name: str, width: int) -> str:
    Image.new("RGB", (width, 20), "red").save(folder / name)
    return name
