"""The meter of a run by the prices and the cap of the settings."""

from vlm4rec_search.common.cache.spending import Meter, Prices
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings


def prices(settings: Settings) -> Prices:
    """Return the prices of the settings."""
    return Prices(settings.price_in, settings.price_out)


def meter(settings: Settings, cap: float | None = None) -> Meter:
    """Return a meter at the settings' prices; `cap` is the most to spend, by default that of the settings.

    Raises:
        UsageError: there is a cap, but no price that it could be measured with.
    """
    most = settings.caption_max_cost if cap is None else cap
    if most is not None and not settings.price_in and not settings.price_out:
        raise UsageError("a cap on spend needs prices: set VLM4REC_PRICE_IN and VLM4REC_PRICE_OUT, per million tokens")
    return Meter(prices(settings), most)
