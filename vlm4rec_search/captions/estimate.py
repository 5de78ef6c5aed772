"""What captioning the rest of a catalogue will take, before anything is spent."""

from dataclasses import asdict, dataclass

from vlm4rec_search.cache import Cache
from vlm4rec_search.captions.edits import read_edits, unknown_items
from vlm4rec_search.captions.job import RETRIED, standing
from vlm4rec_search.captions.money import prices
from vlm4rec_search.ledger import LedgerRow
from vlm4rec_search.settings import Settings
from vlm4rec_search.spending import ASSUMED_IN, ASSUMED_OUT


@dataclass(frozen=True)
class Estimate:
    """Work that is left, and what it takes.

    Attributes:
        captioner: id.
        items: items of the catalogue.
        cached: items with an answer already.
        todo: items that are pending, photos behind URLs not yet fetched among them.
        wrong: items whose photo failed or whose answer is not to be used: `vlm4rec captions retry`.
        unusable: items without a photo, or with one that cannot be used.
        tokens_in, tokens_out: of all that is to do.
        cost: of these tokens at the prices of the settings.
        hours: at the pace of earlier runs; None before the first.
        measured: captions of earlier runs that tokens and hours are measured on; with 0 the tokens are assumed.
        unknown_edits: ids of captions by hand for items that the catalogue lacks.
    """

    captioner: str
    items: int
    cached: int
    todo: int
    wrong: int
    unusable: int
    tokens_in: int
    tokens_out: int
    cost: float
    hours: float | None
    measured: int
    unknown_edits: list[str]

    def as_json(self) -> dict[str, object]:
        """Return the fields by name."""
        return asdict(self)


def estimate(settings: Settings, captioner: str | None = None, environment: str = "prod") -> Estimate:
    """Count what is left and extrapolate from the ledger; equal photos are counted once for each item.

    Raises:
        UsageError: unknown captioner, no tables yet, or edits that cannot be used.
        RunError: warehouse or cache cannot be used.
    """
    with Cache(settings.cache) as cache:
        known = standing(settings, cache, captioner, environment)
        past = [row for row in cache.ledger() if (row.kind, row.maker) == ("caption", known.maker.id) and row.computed]
    todo, wrong = len(known.at(("pending",))), len(known.at(RETRIED))
    ok = len(known.at(("ok",)))
    each_in, each_out, seconds = _pace(past)
    tokens = round(todo * each_in), round(todo * each_out)
    unknown = unknown_items(read_edits(settings.caption_edits), [item.item_id for item in known.items])
    hours = None if seconds is None else todo * seconds / 3600
    counts = (len(known.items), ok, todo, wrong, len(known.items) - ok - todo - wrong)
    measured = sum(row.computed for row in past)
    return Estimate(known.maker.id, *counts, *tokens, prices(settings).cost(*tokens), hours, measured, unknown)


def _pace(past: list[LedgerRow]) -> tuple[float, float, float | None]:
    """Return tokens in, tokens out and wall seconds for one caption."""
    calls = sum(row.computed + row.failed for row in past)
    if not calls:
        return ASSUMED_IN, ASSUMED_OUT, None
    seconds = sum(row.seconds for row in past) / calls
    return sum(row.tokens_in for row in past) / calls, sum(row.tokens_out for row in past) / calls, seconds
