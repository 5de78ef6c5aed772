"""The rows of captions.all_captions: one row for each item and captioner, with a caption or the reason for none."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from vlm4rec_search.captioning.base import Captioner, Context
from vlm4rec_search.captioning.edits import Edit, find_unknown_items, hash_edits, read_edits
from vlm4rec_search.captioning.generate import Outcome, caption_photos
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.captioning.validation import VERSION
from vlm4rec_search.common.cache import Cache, CostMeter, FillPolicy
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.python_models import nullable_texts
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.decode import PREPROCESSING
from vlm4rec_search.datasets.photos.locate import NO_FETCH, FetchPolicy, locate_photos, plan_remote
from vlm4rec_search.embeddings.recipes import usual_recipe

logger = logging.getLogger(__name__)

_PRODUCED_BY = ("item_id", "captioner", "active", "prompt", "image", "photo_hash")
_OUTCOME = ("status", "caption", "error", "answer", "attributes", "editor", "edit_note")
COLUMNS = [*_PRODUCED_BY, *_OUTCOME, "tokens_in", "tokens_out", "seconds"]


def caption_table(items: pd.DataFrame, captioner: str, others: str | None, settings: Settings) -> pd.DataFrame:
    """Return the rows of captions.all_captions for a plan, see `caption_items`.

    At most `settings.caption_budget` captions are made. An earlier failure is shown with its reason and not retried;
    `vlm4rec captions retry` does that.

    Args:
        items: as in `caption_items`.
        captioner: name of the active captioner.
        others: names of the other captioners, separated by commas.
        settings: data folder, cache, options of the captioners, budget, spending cap and edits.

    Raises:
        UsageError: a captioner is unknown, the edits are invalid, or there is a spending cap without prices.
        RunError: the cache cannot be used, or a captioner breaks its contract.
    """
    policy = FillPolicy(limit=settings.caption_budget, retry_failed=False, cost_meter=CostMeter.from_settings(settings))
    return caption_items(
        items,
        load_captioner(captioner, settings),
        settings.data_dir,
        settings.cache,
        others=[load_captioner(name, settings) for name in split_names(others)],
        policy=policy,
        remote=plan_remote(settings),
        edits=read_edits(settings.caption_edits),
    )


def caption_items(
    items: pd.DataFrame,
    captioner: Captioner,
    data_dir: Path,
    cache: Path,
    *,
    others: Sequence[Captioner] = (),
    policy: FillPolicy | None = None,
    remote: FetchPolicy = NO_FETCH,
    edits: Mapping[str, Edit] | None = None,
) -> pd.DataFrame:
    """Caption the photo of each item through the cache.

    Args:
        items: the text columns item_id, image (path relative to `data_dir`, URL or null), title and category.
        captioner: the active captioner.
        data_dir: the folder that contains the photos.
        cache: the folder of the results of model calls.
        others: captioners for comparison. Their captions are read from the cache and never made here.
        policy: the number of captions to make now, by default all; the other items are pending.
        remote: the number of photos behind URLs to fetch now.
        edits: manual captions by item id; they replace caption and attributes of the active captioner.

    Returns:
        One row for each captioner and item, the active captioner first, in the order of the items. `COLUMNS` are of
        dtype object: item_id, captioner (id), active (bool), prompt (id), image, photo_hash (sha256 of the bytes),
        status, caption (null unless the status is ok), error (why the status is not ok, or a remark on an ok caption),
        answer (of the captioner, whatever its status), attributes (JSON; empty for a manual caption), editor and
        edit_note (of a manual caption), tokens_in, tokens_out and seconds (of the model call; null without one).

    Raises:
        RunError: the cache cannot be used, or a captioner breaks its contract.
    """
    images = nullable_texts(items["image"])
    with Cache(cache) as store:
        photos = locate_photos(images, data_dir, store, remote)
        texts = zip(nullable_texts(items["title"]), nullable_texts(items["category"]), strict=True)
        contexts = [Context(title or "", category or "") for title, category in texts]
        outcomes, results = caption_photos(captioner, photos, contexts, store, policy or FillPolicy())
        other_outcomes = [caption_photos(other, photos, contexts, store, FillPolicy(limit=0))[0] for other in others]
    if results.left:
        logger.warning("The spending cap ended the captioning; %d photos are left.", results.left)
    manual = dict(edits or {})
    if unknown := find_unknown_items(manual, items["item_id"]):
        shown = ", ".join(map(repr, unknown[:5]))
        logger.warning("%d manual captions are for items that are not in the catalogue: %s", len(unknown), shown)
    rows: list[dict[str, object]] = []
    for producer, produced in zip((captioner, *others), (outcomes, *other_outcomes), strict=True):
        active = producer is captioner
        for item, image, photo, outcome in zip(items["item_id"], images, photos, produced, strict=True):
            item_columns = {
                "item_id": item,
                "captioner": producer.id,
                "active": active,
                "prompt": producer.prompt,
                "image": image,
                "photo_hash": photo.digest,
            }
            caption_columns = _caption_columns(outcome, manual.get(item) if active else None)
            rows.append(dict.fromkeys(COLUMNS) | item_columns | caption_columns)
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def _caption_columns(outcome: Outcome, edit: Edit | None) -> dict[str, object]:
    columns: dict[str, object] = {
        "answer": outcome.answer,
        "tokens_in": outcome.tokens_in,
        "tokens_out": outcome.tokens_out,
        "seconds": outcome.seconds,
    }
    if edit:
        # The attributes of the model are dropped: a caption corrected to "blue" must not be found under the colour red.
        return columns | {
            "status": "ok",
            "caption": edit.caption,
            "attributes": "{}",
            "editor": edit.editor,
            "edit_note": edit.note,
        }
    is_ok = outcome.status == "ok"
    return columns | {
        "status": outcome.status,
        "caption": outcome.answer if is_ok else None,
        "error": outcome.error,
        "attributes": json.dumps(dict(outcome.attributes) if is_ok else {}, ensure_ascii=False),
    }


def split_names(names: str | None) -> list[str]:
    """Split a list of captioners that are separated by commas."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def caption_variables(settings: Settings, cache: Cache) -> dict[str, str | None]:
    """Return the variables through which SQLMesh notices new captioners, captions, retries and edits.

    The usual recipe is the text recipe that suits the captioner, for a shop with too little history to choose one.

    Raises:
        UsageError: a captioner is unknown, the edits are invalid, or there is a spending cap without prices.
        RunError: the cache cannot be used.
    """
    CostMeter.from_settings(settings)  # refuses such a cap before a plan begins
    names = (settings.captioner, *split_names(settings.other_captioners))
    captioners = [load_captioner(name, settings) for name in names]
    if len({captioner.id for captioner in captioners}) < len(captioners):
        raise UsageError("VLM4REC_OTHER_CAPTIONERS contains the active captioner, or one captioner twice: remove it")
    revisions = [cache.revision("caption", captioner.id) for captioner in captioners]
    return {
        "captioner": settings.captioner,
        "other_captioners": settings.other_captioners,
        "captioner_id": " ".join(
            part
            for captioner in captioners
            for part in (captioner.id, captioner.prompt, captioner.decoding, PREPROCESSING, VERSION)
        ),
        "captions": " ".join(revisions),
        "caption_edits": hash_edits(settings.caption_edits),
        "caption_budget": str(settings.caption_budget),
        "usual_recipe": usual_recipe(captioners[0].understands),
    }
