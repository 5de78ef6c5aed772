"""Captions of a whole catalogue: one row for each item, one model call for each distinct photo."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.size_captioner import SizeCaptioner, make_items, save_photo
from PIL import Image

from vlm4rec_search.captioning.base import Caption, Captioner
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.captioning.table import COLUMNS, caption_items
from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings


class WrongCaptioner(SizeCaptioner):
    def __init__(self, returned: Any) -> None:
        super().__init__()
        self.returned = returned

    def caption(self, photos: Sequence[Image.Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        captions: list[Caption | Exception] = self.returned
        return captions


def caption_photos(data: Path, captioner: Captioner, *rows: tuple[str, str | None]) -> pd.DataFrame:
    return caption_items(make_items(*rows), captioner, data, data / "cache")


def test_every_item_gets_a_row_in_order(tmp_path: Path) -> None:
    good = save_photo(tmp_path, "good.png", 30)
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "cut.png").write_bytes((tmp_path / good).read_bytes()[:40])
    rows = [("a", good), ("b", None), ("c", "absent.jpg"), ("d", "../x.jpg"), ("e", "https://x.example/a.jpg")]
    frame = caption_photos(tmp_path, SizeCaptioner(), *rows, ("f", "text.jpg"), ("g", "cut.png"))
    assert list(frame.columns) == COLUMNS
    assert list(frame["item_id"]) == list("abcdefg")
    assert list(frame["status"]) == ["ok", "no_photo", "missing", "outside", "pending", "wrong_type", "unreadable"]
    assert list(frame["caption"]) == ["30 wide bags"] + [None] * 6
    assert frame["error"][0] is None
    assert all(frame["error"][1:])
    assert set(frame["captioner"]) == {"size@1"}
    assert set(frame["prompt"]) == {"category-1"}


def test_a_remark_about_the_photo_is_stored_with_the_caption(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    for _ in range(2):  # computed, then cached
        frame = caption_photos(tmp_path, SizeCaptioner(), ("a", "a.gif"))
        assert (frame["status"][0], frame["caption"][0]) == ("ok", "8 wide bags")
        assert frame["error"][0] == "animated or multi-page: first of several frames used"


def test_identical_and_renamed_photos_cost_one_call(tmp_path: Path) -> None:
    save_photo(tmp_path, "a.png", 30)
    save_photo(tmp_path, "b.png", 30)
    first = SizeCaptioner()
    frame = caption_photos(tmp_path, first, ("1", "a.png"), ("2", "b.png"))
    assert first.calls == [1]
    assert frame["photo_hash"][0] == frame["photo_hash"][1]
    (tmp_path / "a.png").rename(tmp_path / "renamed.png")
    again = SizeCaptioner()
    assert list(caption_photos(tmp_path, again, ("1", "renamed.png"), ("2", "b.png"))["status"]) == ["ok", "ok"]
    assert again.calls == []


def test_new_items_cost_one_call_each_and_old_items_none(tmp_path: Path) -> None:
    rows: list[tuple[str, str | None]] = [
        (str(width), save_photo(tmp_path, f"{width}.png", width)) for width in range(20, 30)
    ]
    caption_photos(tmp_path, SizeCaptioner(), *rows)
    caption_photos(tmp_path, SizeCaptioner(), *rows, ("new", save_photo(tmp_path, "new.png", 99)))
    with Cache(tmp_path / "cache") as cache:
        counts = [(row.kind, row.computed, row.cached, row.failed) for row in cache.ledger()]
    assert counts == [("caption", 10, 0, 0), ("caption", 1, 10, 0)]


def test_a_changed_prompt_makes_a_new_caption(tmp_path: Path) -> None:
    save_photo(tmp_path, "a.png", 30)
    items = make_items(("1", "a.png"))
    caption_items(items, SizeCaptioner(), tmp_path, tmp_path / "cache")
    frame = caption_items(items.assign(category="hats"), SizeCaptioner(), tmp_path, tmp_path / "cache")
    assert frame["caption"][0] == "30 wide hats"


def test_a_failing_photo_does_not_affect_others_and_is_retried(tmp_path: Path) -> None:
    rows: list[tuple[str, str | None]] = [
        (str(width), save_photo(tmp_path, f"{width}.png", width)) for width in (12, 13, 14)
    ]
    captioner = SizeCaptioner()
    frame = caption_photos(tmp_path, captioner, *rows)
    assert captioner.calls == [2, 1, 1, 1]  # a batch of 12 and 13, each of them alone, then 14
    assert list(frame["status"]) == ["ok", "failed", "ok"]
    assert frame["error"][1] == "ValueError: 13 is unlucky"
    again = SizeCaptioner()
    caption_photos(tmp_path, again, *rows)
    assert again.calls == [1]


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ([], "returned 0 captions for 1 photos"),
        (None, "has to return a list .*: object of type 'NoneType' has no len"),
        (["A red mug."], "has to return a list .*: 'str' object has no attribute 'text'"),
        ([None], "has to return a list .*: 'NoneType' object has no attribute 'text'"),
        ([Caption(None)], "has to return a list .*: 'NoneType' object has no attribute 'split'"),  # type: ignore[arg-type]
    ],
    ids=["nothing", "none", "texts", "no caption", "no text"],
)
def test_a_captioner_that_breaks_its_contract_is_an_error(tmp_path: Path, returned: object, reason: str) -> None:
    save_photo(tmp_path, "a.png", 30)
    with pytest.raises(RunError, match=f"captioner size@1 {reason}"):
        caption_photos(tmp_path, WrongCaptioner(returned), ("1", "a.png"))


def test_the_error_for_an_unknown_captioner_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown captioner 'oracle': set VLM4REC_CAPTIONER to one of attributes"):
        load_captioner("oracle", Settings())


def test_an_empty_catalogue_gives_an_empty_frame(tmp_path: Path) -> None:
    frame = caption_photos(tmp_path, SizeCaptioner())
    assert frame.empty
    assert list(frame.columns) == COLUMNS
