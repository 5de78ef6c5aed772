"""The rows of captions.all_captions: one for each item and captioner, whatever the item's photo is."""

import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.captioning.generate import Outcome, caption_photos
from vlm4rec_search.captioning.registry import Captioner, Context, load_captioner
from vlm4rec_search.captioning.validation import VERSION
from vlm4rec_search.common.cache import Cache, CostMeter, FillPolicy
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.python_models import nullable_texts
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.decode import PREPROCESSING, PhotoFile
from vlm4rec_search.datasets.photos.locate import NO_FETCH, FetchPolicy, locate_photos

if TYPE_CHECKING:
    import pandas as pd

    from vlm4rec_search.common.python_models import ModelFolders


# Captions corrected by hand: a CSV file of item_id and caption, with who did it and why.

NOBODY = "unknown"


@dataclass(frozen=True)
class Edit:
    """A caption that a person wrote; `editor` is `NOBODY` and `note` None where the file does not say."""

    caption: str
    editor: str = NOBODY
    note: str | None = None


def read_edits(path: Path | None) -> dict[str, Edit]:
    """Return the edits of a file by item id, none for no file.

    Args:
        path: CSV in UTF-8 with the columns item_id and caption, and perhaps editor and note (`VLM4REC_CAPTION_EDITS`).

    Raises:
        UsageError: the file cannot be read, lacks a column, or has a row without id or caption or for an item again.
    """
    if path is None:
        return {}
    edits: dict[str, Edit] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, row in _rows(csv.DictReader(file), path):
                item, caption = row.get("item_id", ""), " ".join(row.get("caption", "").split())
                if not item or not caption or item in edits:
                    wrong = f"a second caption for {item!r}" if item in edits else "no item_id or no caption"
                    raise UsageError(f"{path}, line {line}: {wrong}; each item has one row with both")
                edits[item] = Edit(caption, row.get("editor") or NOBODY, row.get("note") or None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"VLM4REC_CAPTION_EDITS: {path} cannot be read as CSV in UTF-8: {error}") from None
    return edits


def edits_hash(path: Path | None) -> str | None:
    """Return the sha256 (hex) of the file of edits, None for none.

    Raises:
        UsageError: as `read_edits`, so that a plan does not start with a file that cannot be used.
    """
    if path is None:
        return None
    read_edits(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unknown_items(edits: Mapping[str, Edit], items: Sequence[str]) -> list[str]:
    """Return the ids of edits for items that the catalogue does not have."""
    return sorted(set(edits) - set(items))


def _rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if not {"item_id", "caption"} <= set(reader.fieldnames or ()):
        raise UsageError(f"{path} needs the columns item_id and caption; it has {', '.join(reader.fieldnames or ())}")
    for row in reader:
        yield reader.line_num, {name: value.strip() for name, value in row.items() if name and isinstance(value, str)}


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
    policy: FillPolicy | None = None,
    remote: FetchPolicy = NO_FETCH,
    edits: Mapping[str, Edit] | None = None,
) -> "pd.DataFrame":
    """Caption the photo of each item through the cache.

    Args:
        items: columns item_id, image (path relative to `data_dir`, URL or null), title and category, all text.
        captioner: name for `load_captioner`, or a captioner: the active one.
        data_dir: the folder that photos must lie in.
        cache: folder of the results of model calls.
        others: captioners that stand beside; what they said is read from the cache, nothing is computed for them.
        policy: how many captions are computed now, by default all; the others are pending.
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
    images = nullable_texts(items["image"])
    with Cache(cache) as store:
        found = locate_photos(images, data_dir, store, remote)
        told, first = contexts(items), policy or FillPolicy()
        outcomes, filled = caption_photos(makers[0], found, told, store, first)
        beside = [caption_photos(maker, found, told, store, FillPolicy(limit=0))[0] for maker in makers[1:]]
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


def contexts(items: "pd.DataFrame") -> list[Context]:
    """Return what captioners may know of each item: title and category."""
    pairs = zip(nullable_texts(items["title"]), nullable_texts(items["category"]), strict=True)
    return [Context(title or "", category or "") for title, category in pairs]


def _tell_unknown(edits: Mapping[str, Edit], items: "pd.Series[str]") -> None:
    if lost := unknown_items(edits, list(items)):
        shown = ", ".join(map(repr, lost[:5]))
        print(f"{len(lost)} captions by hand are for items that the catalogue lacks: {shown}", file=sys.stderr)


def _row(
    maker: Captioner, active: bool, item: str, image: str | None, photo: PhotoFile, one: Outcome, edit: Edit | None
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


# Captions inside `sqlmesh plan`: what the cache holds, and at most a budget of new ones.


def caption_table(
    items: "pd.DataFrame", captioner: str, others: str | None, place: "ModelFolders", settings: Settings
) -> "pd.DataFrame":
    """Return the rows of captions.all_captions as `caption_items` does, computing at most the budget of the settings.

    What failed before is shown with its reason and not tried again: `vlm4rec captions retry` does that.

    Raises:
        UsageError: an unknown captioner, edits that cannot be used, or a spending cap without prices.
        RunError: the cache cannot be used, or a captioner breaks its contract.
    """
    policy = FillPolicy(limit=settings.caption_budget, retry_failed=False, cost_meter=CostMeter.from_settings(settings))
    return caption_items(
        items,
        captioner,
        place.photos,
        place.cache,
        others=names(others),
        policy=policy,
        remote=plan_remote(settings),
        edits=read_edits(settings.caption_edits),
    )


def plan_remote(settings: Settings) -> FetchPolicy:
    """Return how far a plan fetches photos behind URLs: as many as it may caption, failed ones not again."""
    return FetchPolicy(FillPolicy(limit=settings.caption_budget, retry_failed=False), settings.allow_private_addresses)


def names(others: str | None) -> list[str]:
    """Split a list of captioners as the settings have it."""
    return [name.strip() for name in (others or "").split(",") if name.strip()]


def caption_variables(settings: Settings, cache: Cache) -> dict[str, str | None]:
    """Return the variables of the SQLMesh project that make a plan see captioners, captions, retries and edits.

    Raises:
        UsageError: an unknown captioner, or edits that cannot be used.
        RunError: the cache cannot be used.
    """
    makers = [load_captioner(name, settings) for name in (settings.captioner, *names(settings.other_captioners))]
    if len({maker.id for maker in makers}) < len(makers):
        raise UsageError("VLM4REC_OTHER_CAPTIONERS names the active captioner, or one captioner twice")
    revisions = [cache.revision("caption", maker.id) for maker in makers]
    return {
        "captioner": settings.captioner,
        "other_captioners": settings.other_captioners,
        "captioner_id": " ".join(
            part for maker in makers for part in (maker.id, maker.prompt, maker.decoding, PREPROCESSING, VERSION)
        ),
        "captions": " ".join(revisions),
        "caption_edits": edits_hash(settings.caption_edits),
        "caption_budget": str(settings.caption_budget),
    }
