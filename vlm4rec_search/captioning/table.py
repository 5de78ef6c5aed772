"""The rows of captions.all_captions: one for each item and captioner, whatever the item's photo is."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.captioning.edits import Edit, unknown_items
from vlm4rec_search.captioning.generate import Outcome, fill_captions
from vlm4rec_search.captioning.registry import Captioner, Context, load_captioner
from vlm4rec_search.common.cache.cache import Cache
from vlm4rec_search.common.cache.policy import Effort
from vlm4rec_search.datasets.photos.locate import ONLY_FETCHED, Found, Remote, find

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = [
    "item_id", "captioner", "active", "prompt", "image", "photo_hash", "status", "caption", "error", "answer",
    "attributes", "editor", "edit_note", "tokens_in", "tokens_out", "seconds",
]  # fmt: skip


def caption_items(
    items: "pd.DataFrame",
    captioner: str | Captioner,
    data_dir: Path,
    cache: Path,
    *,
    others: Sequence[str | Captioner] = (),
    effort: Effort | None = None,
    remote: Remote = ONLY_FETCHED,
    edits: Mapping[str, Edit] | None = None,
) -> "pd.DataFrame":
    """Caption the photo of each item through the cache.

    Args:
        items: columns item_id, image (path relative to `data_dir`, URL or null), title and category, all text.
        captioner: name for `load_captioner`, or a captioner: the active one.
        data_dir: the folder that photos must lie in.
        cache: folder of the results of model calls.
        others: captioners that stand beside; what they said is read from the cache, nothing is computed for them.
        effort: how many captions are computed now, by default all; the others are pending.
        remote: how many photos behind URLs are fetched now.
        edits: captions written by hand, by item id; they take the place of the active captioner's words and attributes.

    Returns:
        One row for each captioner and item, the active captioner first, in the order of the items, with `COLUMNS`, all
        object: item_id, captioner (id), active (bool), prompt (id), image, photo_hash (sha256 of the bytes), status,
        caption (null unless ok), error (why it is not ok, or with ok what is to be known), answer (what the captioner
        said, whatever the status), attributes (JSON; none beside a caption by hand), editor and edit_note (of a caption
        by hand), tokens_in, tokens_out and seconds (of the model call; null without one).

    Raises:
        UsageError: unknown captioner.
        RunError: the cache cannot be used, or a captioner breaks its contract.
    """
    import pandas as pd

    makers = [load_captioner(one) if isinstance(one, str) else one for one in (captioner, *others)]
    images = texts(items["image"])
    with Cache(cache) as store:
        found = find(images, data_dir, store, remote)
        told, first = contexts(items), effort or Effort()
        outcomes, filled = fill_captions(makers[0], found, told, store, first)
        beside = [fill_captions(maker, found, told, store, Effort(limit=0))[0] for maker in makers[1:]]
    if filled.left:
        print(f"the cap on spend ended the captioning: {filled.left} photos are left", file=sys.stderr)
    written = dict(edits or {})
    _tell_unknown(written, items["item_id"])
    rows: list[tuple[object, ...]] = []
    for maker, ours in zip(makers, [outcomes, *beside], strict=True):
        hand = written if maker is makers[0] else {}
        rows += [
            _row(maker, maker is makers[0], item, image, photo, one, hand.get(item))
            for item, image, photo, one in zip(items["item_id"], images, found, ours, strict=True)
        ]
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def texts(column: "pd.Series[str]") -> list[str | None]:
    """Return a text column as a list with None for every kind of null."""
    return [None if null else str(value) for value, null in zip(column, column.isna(), strict=True)]


def contexts(items: "pd.DataFrame") -> list[Context]:
    """Return what captioners may know of each item: title and category."""
    pairs = zip(texts(items["title"]), texts(items["category"]), strict=True)
    return [Context(title or "", category or "") for title, category in pairs]


def _tell_unknown(edits: Mapping[str, Edit], items: "pd.Series[str]") -> None:
    if lost := unknown_items(edits, list(items)):
        shown = ", ".join(map(repr, lost[:5]))
        print(f"{len(lost)} captions by hand are for items that the catalogue lacks: {shown}", file=sys.stderr)


def _row(
    maker: Captioner, active: bool, item: str, image: str | None, photo: Found, one: Outcome, edit: Edit | None
) -> tuple[object, ...]:
    status, error = ("ok", None) if edit else (one.status, one.error)
    caption = edit.caption if edit else one.answer if one.status == "ok" else None
    # a person's words replace all that was said of the photo: "blue" must not be found under the colour red
    found = dict(one.attributes) if one.status == "ok" and edit is None else {}
    attributes = json.dumps(found, ensure_ascii=False)
    by = (edit.editor, edit.note) if edit else (None, None)
    made = (maker.id, active, maker.prompt, image, photo.digest)
    return (
        item,
        *made,
        status,
        caption,
        error,
        one.answer,
        attributes,
        *by,
        one.tokens_in,
        one.tokens_out,
        one.seconds,
    )
