"""The first captions of a catalogue, to look at before the rest is paid for."""

from dataclasses import asdict, dataclass

from vlm4rec_search.captioning.generate import Outcome
from vlm4rec_search.captioning.run import Standing, caption_these, standing
from vlm4rec_search.common.cache.cache import Cache
from vlm4rec_search.common.cache.money import meter
from vlm4rec_search.common.cache.policy import Effort
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.settings import Settings

_WITHOUT_PHOTO = ("no_photo", "missing", "outside", "blocked", "unreadable", "too_large", "wrong_type")


@dataclass(frozen=True)
class Previewed:
    """One item: the prompt as the captioner gets it, and what became of it, as in `Outcome`."""

    item_id: str
    title: str
    prompt: str
    status: str
    answer: str | None
    error: str | None
    tokens_in: int | None
    tokens_out: int | None
    seconds: float | None

    def as_json(self) -> dict[str, object]:
        """Return the fields by name."""
        return asdict(self)


def preview(settings: Settings, count: int, captioner: str | None = None, environment: str = "prod") -> list[Previewed]:
    """Caption the `count` most wanted items that have a photo, and return what came back, now or before.

    As in a run, what failed before is shown and not asked for again.

    Raises:
        UsageError, RunError: as `run_captions`.
    """
    effort = Effort(failed=False, origin="preview", meter=meter(settings), show=bar)
    with Cache(settings.cache) as cache:
        known = standing(settings, cache, captioner, environment)
        chosen = [at for at, one in enumerate(known.outcomes) if one.status not in _WITHOUT_PHOTO][:count]
        outcomes, _ = caption_these(known, chosen, settings, cache, effort)
    return [_previewed(known, position, one) for position, one in zip(chosen, outcomes, strict=True)]


def _previewed(known: Standing, position: int, one: Outcome) -> Previewed:
    item = known.items[position]
    said = (one.status, one.answer, one.error, one.tokens_in, one.tokens_out, one.seconds)
    return Previewed(item.item_id, item.title, known.maker.render(item.context), *said)
