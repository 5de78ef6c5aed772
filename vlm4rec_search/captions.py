"""Captions of item photos: one row for each item, whatever its photo is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.cache import Cache, Result, result_key
from vlm4rec_search.captioners import Captioner, Context, load_captioner
from vlm4rec_search.errors import RunError, Vlm4recError
from vlm4rec_search.photo_files import Found, PhotoError, find
from vlm4rec_search.photos import PREPROCESSING, Photo, read

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["item_id", "image", "photo_hash", "status", "caption", "error", "captioner", "prompt"]


def caption_items(items: "pd.DataFrame", captioner: str | Captioner, data_dir: Path, cache: Path) -> "pd.DataFrame":
    """Caption the photo of each item through the cache.

    Args:
        items: columns item_id, image (path relative to `data_dir`, URL or null), title and category, all text.
        captioner: name for `load_captioner`, or a captioner.
        data_dir: the folder that photos must lie in.
        cache: folder of the results of model calls.

    Returns:
        One row for each item in the same order: item_id, image, photo_hash (sha256 of the bytes), status, caption,
        error (why there is no caption, or with status ok what had to be done to the photo), captioner (id) and
        prompt (id), all text or null. Status is ok, no_photo, missing, outside, remote, unreadable, too_large,
        wrong_type or failed. Failures are not cached: the next call tries them again.

    Raises:
        UsageError: unknown captioner.
        RunError: the cache cannot be used, or the captioner breaks its contract.
    """
    import pandas as pd

    maker = load_captioner(captioner) if isinstance(captioner, str) else captioner
    images = texts(items["image"])
    contexts = [Context(title or "", category or "") for title, category in _pairs(items)]
    with Cache(cache) as store:
        found = find(images, data_dir, store)
        outcomes = _outcomes(maker, found, [maker.render(context) for context in contexts], store)
    rows = [
        (item, image, photo.digest, *outcome, maker.id, maker.prompt)
        for item, image, photo, outcome in zip(items["item_id"], images, found, outcomes, strict=True)
    ]
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def texts(column: "pd.Series[str]") -> list[str | None]:
    """Return a text column as a list with None for every kind of null."""
    return [None if null else str(value) for value, null in zip(column, column.isna(), strict=True)]


def _pairs(items: "pd.DataFrame") -> "zip[tuple[str | None, str | None]]":
    return zip(texts(items["title"]), texts(items["category"]), strict=True)


def _outcomes(
    maker: Captioner, found: Sequence[Found], prompts: Sequence[str], cache: Cache
) -> list[tuple[str, str | None, str | None]]:
    """Return status, caption and error of each item."""
    usable = [position for position, photo in enumerate(found) if photo.error is None]
    work = _Work(maker, [found[position] for position in usable], [prompts[position] for position in usable])
    label = f"captions by {maker.id}"
    filled = cache.fill("caption", maker.id, work.keys(), work.compute, batch_size=maker.batch_size, label=label)
    results = dict(zip(usable, filled.values, strict=True))
    return [_outcome(results.get(position, photo.error)) for position, photo in enumerate(found)]


def _outcome(result: Result | None) -> tuple[str, str | None, str | None]:
    if isinstance(result, bytes):
        entry = json.loads(result)
        return "ok", entry["caption"], entry["note"] or None
    if isinstance(result, PhotoError):
        return result.status, None, str(result)
    return "failed", None, f"{type(result).__name__}: {result}"


@dataclass(frozen=True)
class _Work:
    """The photos that can be read, and how a batch of them is captioned."""

    maker: Captioner
    found: Sequence[Found]
    prompts: Sequence[str]

    def keys(self) -> list[str]:
        maker = (self.maker.id, self.maker.prompt, self.maker.decoding, PREPROCESSING)
        return [
            result_key("caption", *maker, photo.digest or "", prompt)
            for photo, prompt in zip(self.found, self.prompts, strict=True)
        ]

    def compute(self, positions: Sequence[int]) -> list[Result]:
        photos = {position: _read(self.found[position]) for position in positions}
        good = {position: photo for position, photo in photos.items() if isinstance(photo, Photo)}
        captions = self._captions(list(good.values()), [self.prompts[position] for position in good])
        results: dict[int, Result] = dict(zip(good, captions, strict=True))
        failed = {position: photo for position, photo in photos.items() if isinstance(photo, PhotoError)}
        return [(results | failed)[position] for position in positions]

    def _captions(self, photos: Sequence[Photo], prompts: Sequence[str]) -> list[Result]:
        """Caption a batch; when it fails as a whole, each photo alone, so that one cannot take the others along."""
        if not photos:
            return []
        try:
            captions = self.maker.caption([photo.image for photo in photos], prompts)
        except Vlm4recError:
            raise
        except Exception as error:
            if len(photos) == 1:
                return [error]
            pairs = zip(photos, prompts, strict=True)
            return [result for photo, prompt in pairs for result in self._captions([photo], [prompt])]
        if len(captions) != len(photos):
            raise RunError(f"captioner {self.maker.id} returned {len(captions)} captions for {len(photos)} photos")
        return [_entry(caption, photo) for caption, photo in zip(captions, photos, strict=True)]


def _entry(caption: str, photo: Photo) -> Result:
    text = " ".join(caption.split())
    return json.dumps({"caption": text, "note": photo.note}).encode() if text else ValueError("the caption is empty")


def _read(found: Found) -> Photo | PhotoError:
    try:
        return read(found)
    except PhotoError as error:
        return error
