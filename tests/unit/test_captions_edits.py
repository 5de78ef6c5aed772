"""Manual captions: the format of the file, their precedence, and their editor."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from helpers.size_captioner import SizeCaptioner, make_items, save_photo
from PIL import Image

from vlm4rec_search.captioning.base import Caption
from vlm4rec_search.captioning.edits import Edit, hash_edits, read_edits
from vlm4rec_search.captioning.table import caption_items
from vlm4rec_search.common.errors import UsageError


def write_edits(folder: Path, text: str) -> Path:
    path = folder / "edits.csv"
    path.write_text(text, "utf-8")
    return path


def test_edits_are_read_with_editor_and_note(tmp_path: Path) -> None:
    path = write_edits(
        tmp_path, '\ufeffitem_id,caption,editor,note\n007," A red\nmug. ",ann,wrong colour\n8,"A bag, blue",,\n'
    )
    assert read_edits(path) == {"007": Edit("A red mug.", "ann", "wrong colour"), "8": Edit("A bag, blue")}
    assert read_edits(None) == {}
    assert hash_edits(None) is None
    before = hash_edits(path)
    path.write_text("item_id,caption\n8,A bag\n")
    assert hash_edits(path) != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,text\n1,A mug\n", "needs the columns item_id and caption; it has item_id, text"),
        ("", "needs the columns item_id and caption"),
        ("item_id,caption\n1,A mug\n1,A cup\n", "line 3: a second caption for '1'"),
        ("item_id,caption\n1,\n", "line 2: no item_id or no caption"),
        ("item_id,caption\n,A mug\n", "line 2: no item_id or no caption"),
        ("item_id,caption\n1\n", "line 2: no item_id or no caption"),
    ],
)
def test_an_ambiguous_or_incomplete_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_edits(write_edits(tmp_path, text))


def test_a_file_that_is_missing_or_not_utf8_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"VLM4REC_CAPTION_EDITS: .* cannot be read"):
        hash_edits(tmp_path / "absent.csv")
    (tmp_path / "edits.csv").write_bytes(b"item_id,caption\n1,\xff\xfe\n")
    with pytest.raises(UsageError, match="cannot be read as CSV in UTF-8"):
        read_edits(tmp_path / "edits.csv")


def test_a_manual_caption_wins_and_the_answer_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = make_items(("a", save_photo(tmp_path, "a.png", 30)), ("b", save_photo(tmp_path, "b.png", 13)), ("c", None))
    edits = {"a": Edit("A good bag.", "ann", "shorter"), "c": Edit("A bag without a photo."), "zz": Edit("Nothing.")}
    frame = caption_items(items, SizeCaptioner(), tmp_path, tmp_path / "cache", edits=edits)
    shown = frame[["item_id", "status", "caption", "answer", "editor", "edit_note"]].astype(object)
    assert shown.where(shown.notna(), None).to_numpy().tolist() == [
        ["a", "ok", "A good bag.", "30 wide bags", "ann", "shorter"],
        ["b", "failed", None, None, None, None],
        ["c", "ok", "A bag without a photo.", None, "unknown", None],
    ]
    assert "1 manual captions are for items that are not in the catalogue: 'zz'" in caplog.text


def test_other_captioners_are_read_from_the_cache_and_never_called(tmp_path: Path) -> None:
    class OtherCaptioner(SizeCaptioner):
        id = "other@1"

    items = make_items(("a", save_photo(tmp_path, "a.png", 30)), ("b", save_photo(tmp_path, "b.png", 40)))
    other = OtherCaptioner()
    caption_items(items[:1], OtherCaptioner(), tmp_path, tmp_path / "cache")
    edits = {"b": Edit("A bag.")}
    frame = caption_items(items, SizeCaptioner(), tmp_path, tmp_path / "cache", others=[other], edits=edits)
    assert other.calls == []
    rows = frame[["captioner", "active", "item_id", "status", "caption"]]
    assert rows.astype(object).where(pd.notna(rows), None).to_numpy().tolist() == [
        ["size@1", True, "a", "ok", "30 wide bags"],
        ["size@1", True, "b", "ok", "A bag."],
        ["other@1", False, "a", "ok", "30 wide bags"],
        ["other@1", False, "b", "pending", None],
    ]


def test_a_manual_caption_drops_the_attributes_of_the_model(tmp_path: Path) -> None:
    """An item whose caption was corrected to blue must not be found under the colour red."""

    class Structured(SizeCaptioner):
        def caption(self, photos: Sequence[Image.Image], prompts: Sequence[str]) -> list[Caption | Exception]:
            return [Caption(f"A red bag, {photo.width} wide.", {"colour": "red"}) for photo in photos]

    items = make_items(("a", save_photo(tmp_path, "a.png", 30)), ("b", save_photo(tmp_path, "b.png", 40)))
    edits = {"a": Edit("A blue bag.", "ann")}
    frame = caption_items(items, Structured(), tmp_path, tmp_path / "cache", edits=edits)
    assert list(frame["attributes"]) == ["{}", '{"colour": "red"}']
    assert frame["answer"][0] == "A red bag, 30 wide.", "the answer of the model is kept"
