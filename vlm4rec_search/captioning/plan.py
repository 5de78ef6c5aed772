"""Captions inside `sqlmesh plan`: what the cache holds, and at most a budget of new ones."""

from typing import TYPE_CHECKING

from vlm4rec_search.captioning.edits import edits_hash, read_edits
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.captioning.table import caption_items
from vlm4rec_search.captioning.validation import VERSION
from vlm4rec_search.common.cache.cache import Cache
from vlm4rec_search.common.cache.money import meter
from vlm4rec_search.common.cache.policy import Effort
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.decode import PREPROCESSING
from vlm4rec_search.datasets.photos.locate import Remote

if TYPE_CHECKING:
    import pandas as pd

    from vlm4rec_search.pipeline.variables import Folders


def caption_table(
    items: "pd.DataFrame", captioner: str, others: str | None, place: "Folders", settings: Settings
) -> "pd.DataFrame":
    """Return the rows of captions.all_captions as `caption_items` does, computing at most the budget of the settings.

    What failed before is shown with its reason and not tried again: `vlm4rec captions retry` does that.

    Raises:
        UsageError: an unknown captioner, edits that cannot be used, or a spending cap without prices.
        RunError: the cache cannot be used, or a captioner breaks its contract.
    """
    effort = Effort(limit=settings.caption_budget, failed=False, meter=meter(settings))
    return caption_items(
        items,
        captioner,
        place.photos,
        place.cache,
        others=names(others),
        effort=effort,
        remote=plan_remote(settings),
        edits=read_edits(settings.caption_edits),
    )


def plan_remote(settings: Settings) -> Remote:
    """Return how far a plan fetches photos behind URLs: as many as it may caption, failed ones not again."""
    return Remote(Effort(limit=settings.caption_budget, failed=False), settings.allow_private_addresses)


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
