"""The work, cost and time of captioning the rest of a catalogue, estimated before any money is spent."""

from dataclasses import dataclass

from vlm4rec_search.captioning.base import Captioner
from vlm4rec_search.captioning.edits import find_unknown_items, read_edits
from vlm4rec_search.captioning.generate import IN_BATCH
from vlm4rec_search.captioning.run import RETRYABLE, CatalogueCaptions, look_up_captions
from vlm4rec_search.common.cache import ASSUMED_IN, ASSUMED_OUT, Cache, LedgerRow, Prices
from vlm4rec_search.common.settings import Settings

_NOT_TIMED = ("import-batch", "merge")
"""Origins of ledger rows whose calls were made elsewhere."""


@dataclass(frozen=True)
class Estimate:
    """The remaining work and its cost.

    Attributes:
        captioner: id.
        items: items of the catalogue.
        cached: items with a usable caption.
        todo: pending items, including those whose photo has not been fetched from its URL yet.
        wrong: items whose photo or call failed or whose answer is unusable; `vlm4rec captions retry` repeats them.
        in_batch: items whose requests are in batch files, and whose answers have not been read yet.
        unusable: items without a photo, or whose photo is missing or outside the data folder.
        tokens_in, tokens_out: tokens of the pending items.
        cost: price of these tokens, at the prices of the settings.
        hours: duration, from the mean seconds of a call, the number of concurrent calls, and the rate limits per
            minute; None if there is neither a measurement nor a limit.
        pace: explanation of `hours`, including its assumptions; "" without hours.
        measured: number of earlier calls behind the token counts; 0 if the counts are assumed.
        unknown_edits: item ids of manual captions that are not in the catalogue.
    """

    captioner: str
    items: int
    cached: int
    todo: int
    wrong: int
    in_batch: int
    unusable: int
    tokens_in: int
    tokens_out: int
    cost: float
    hours: float | None
    pace: str
    measured: int
    unknown_edits: list[str]


def estimate_captions(settings: Settings, captioner: str | None = None, environment: str = "prod") -> Estimate:
    """Count the remaining items and extrapolate from earlier calls. Identical photos count once for each item.

    Args:
        settings: the active captioner, prices, photos, cache and edits.
        captioner: name of another captioner than the active one.
        environment: the SQLMesh environment of the items.

    Raises:
        UsageError: the captioner is unknown, the tables do not exist yet, or the edits are invalid.
        RunError: warehouse or cache cannot be used.
    """
    with Cache(settings.cache) as cache:
        captions = look_up_captions(settings, cache, captioner, environment)
        earlier = earlier_runs(cache, captions.captioner.id)
    items = len(captions.items)
    counted = (("pending",), RETRYABLE, ("ok",), (IN_BATCH,))
    todo, wrong, ok, in_batch = (len(captions.positions(statuses)) for statuses in counted)
    (mean_in, mean_out), measured = mean_tokens(captions, earlier)
    tokens_in, tokens_out = round(todo * mean_in), round(todo * mean_out)
    seconds = _mean_seconds(captions, earlier)
    hours, pace = _estimate_hours(captions.captioner, todo, tokens_in + tokens_out, seconds, measured > 0)
    return Estimate(
        captioner=captions.captioner.id,
        items=items,
        cached=ok,
        todo=todo,
        wrong=wrong,
        in_batch=in_batch,
        unusable=items - ok - todo - wrong - in_batch,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost=Prices.from_settings(settings).cost(tokens_in, tokens_out),
        hours=hours,
        pace=pace,
        measured=measured,
        unknown_edits=find_unknown_items(read_edits(settings.caption_edits), [item.item_id for item in captions.items]),
    )


def earlier_runs(cache: Cache, captioner: str) -> list[LedgerRow]:
    """Return the rows of the ledger in which a captioner, by its id, made captions."""
    return [row for row in cache.ledger() if (row.kind, row.producer) == ("caption", captioner) and row.computed]


def mean_tokens(captions: CatalogueCaptions, earlier: list[LedgerRow]) -> tuple[tuple[float, float], int]:
    """Return the mean tokens in and out of a call, and the number of answered calls behind them (failures are free)."""
    counted = [(outcome.tokens_in, outcome.tokens_out or 0) for outcome in captions.outcomes if outcome.tokens_in]
    if counted:
        number = len(counted)
        return (sum(tokens for tokens, _ in counted) / number, sum(tokens for _, tokens in counted) / number), number
    calls = sum(row.computed for row in earlier)
    if not calls:
        return (ASSUMED_IN, ASSUMED_OUT), 0
    return (sum(row.tokens_in for row in earlier) / calls, sum(row.tokens_out for row in earlier) / calls), calls


def _mean_seconds(captions: CatalogueCaptions, earlier: list[LedgerRow]) -> float | None:
    """Return the mean seconds of a call, as measured by the captioner, or else from the duration of earlier runs."""
    measured = [outcome.seconds for outcome in captions.outcomes if outcome.seconds]
    if measured:
        return sum(measured) / len(measured)
    earlier = [row for row in earlier if row.origin not in _NOT_TIMED]
    calls = sum(row.computed + row.failed for row in earlier)
    return captions.captioner.workers * sum(row.seconds for row in earlier) / calls if calls else None


def _estimate_hours(
    captioner: Captioner, calls: int, tokens: int, seconds: float | None, tokens_measured: bool
) -> tuple[float | None, str]:
    """Return the hours for all calls and an explanation: the longest of the times for calls, requests and tokens."""
    concurrent = min(captioner.workers, calls) or 1
    bounds: list[tuple[float, str]] = []
    if seconds is not None:
        bounds.append((calls * seconds / concurrent / 3600, f"{seconds:.2f} s a call measured, {concurrent} at once"))
    caveat = "" if seconds is not None else "at least; seconds of a call are not known: "
    if requests := captioner.requests_per_minute:
        bounds.append((calls / requests / 60, f"{caveat}{requests:,} requests a minute"))
    if limit := captioner.tokens_per_minute:
        kind = "tokens" if tokens_measured else "assumed tokens"
        bounds.append((tokens / limit / 60, f"{caveat}{limit:,} {kind} a minute"))
    return max(bounds, default=(None, ""), key=lambda bound: bound[0] or 0.0)
