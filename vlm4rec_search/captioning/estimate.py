"""What captioning the rest of a catalogue will take, before anything is spent."""

from dataclasses import asdict, dataclass

from vlm4rec_search.captioning.registry import Captioner
from vlm4rec_search.captioning.run import RETRIED, Standing, standing
from vlm4rec_search.captioning.table import read_edits, unknown_items
from vlm4rec_search.common.cache import ASSUMED_IN, ASSUMED_OUT, Cache, LedgerRow, Prices
from vlm4rec_search.common.settings import Settings


@dataclass(frozen=True)
class Estimate:
    """Work that is left, and what it takes.

    Attributes:
        captioner: id.
        items: items of the catalogue.
        cached: items with an answer already.
        todo: items that are pending, photos behind URLs not yet fetched among them.
        wrong: items whose photo or call failed, or whose answer is not to be used: `vlm4rec captions retry`.
        unusable: items without a photo, or with one that is missing or outside of the data folder.
        tokens_in, tokens_out: of all that is to do.
        cost: of these tokens at the prices of the settings.
        hours: at the seconds of a call so far and so many calls at once as the captioner makes, no sooner than its
            limits per minute allow; None where neither is known.
        pace: what the hours follow from, and what of it is assumed; "" without hours.
        measured: calls of earlier runs that the tokens are measured on; with 0 they are assumed.
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
    pace: str
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
        ledger = cache.ledger()
    past = [row for row in ledger if (row.kind, row.producer) == ("caption", known.maker.id) and row.computed]
    todo, wrong, ok = len(known.at(("pending",))), len(known.at(RETRIED)), len(known.at(("ok",)))
    each, measured = _tokens(known, past)
    tokens = round(todo * each[0]), round(todo * each[1])
    unknown = unknown_items(read_edits(settings.caption_edits), [item.item_id for item in known.items])
    counts = (len(known.items), ok, todo, wrong, len(known.items) - ok - todo - wrong)
    pace = _hours(known.maker, todo, sum(tokens), _seconds(known, past), measured > 0)
    cost = Prices.from_settings(settings).cost(*tokens)
    return Estimate(known.maker.id, *counts, *tokens, cost, *pace, measured, unknown)


def _tokens(known: Standing, past: list[LedgerRow]) -> tuple[tuple[float, float], int]:
    """Return tokens in and out for one call, and how many calls that is measured on: answers, for errors are free."""
    told = [(one.tokens_in, one.tokens_out or 0) for one in known.outcomes if one.tokens_in]
    if told:
        return (sum(sent for sent, _ in told) / len(told), sum(got for _, got in told) / len(told)), len(told)
    calls = sum(row.computed for row in past)
    if not calls:
        return (ASSUMED_IN, ASSUMED_OUT), 0
    return (sum(row.tokens_in for row in past) / calls, sum(row.tokens_out for row in past) / calls), calls


def _seconds(known: Standing, past: list[LedgerRow]) -> float | None:
    """Return the seconds of one call; where a captioner tells none, those of the runs, shared out."""
    told = [one.seconds for one in known.outcomes if one.seconds]
    if told:
        return sum(told) / len(told)
    calls = sum(row.computed + row.failed for row in past)
    return known.maker.workers * sum(row.seconds for row in past) / calls if calls else None


def _hours(maker: Captioner, calls: int, tokens: int, seconds: float | None, counted: bool) -> tuple[float | None, str]:
    """Return the hours that so many calls take, and what decides: the slowest of calls, requests and tokens."""
    at_once = min(maker.workers, calls) or 1
    ways: list[tuple[float, str]] = []
    if seconds is not None:
        ways.append((calls * seconds / at_once / 3600, f"{seconds:.2f} s a call measured, {at_once} at once"))
    unmeasured = "" if seconds is not None else "at least; seconds of a call are not known: "
    if maker.requests_per_minute:
        ways.append(
            (calls / maker.requests_per_minute / 60, f"{unmeasured}{maker.requests_per_minute:,} requests a minute")
        )
    if maker.tokens_per_minute:
        kind = "tokens" if counted else "assumed tokens"
        ways.append((tokens / maker.tokens_per_minute / 60, f"{unmeasured}{maker.tokens_per_minute:,} {kind} a minute"))
    return max(ways, default=(None, ""), key=lambda way: way[0] or 0.0)
