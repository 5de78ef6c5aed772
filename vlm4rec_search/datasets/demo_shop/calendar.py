"""The year of the simulated shoppers. It ends on a fixed day, so that a seed always gives the same log."""

import numpy as np
import numpy.typing as npt

START = np.datetime64("2024-07-01T00:00:00", "s")
END = np.datetime64("2025-06-30T23:59:59", "s")
MONTHS = 12

_DAYS = np.arange(START.astype("datetime64[D]"), END.astype("datetime64[D]") + 1)
_MONTH_OF_DAY = (_DAYS.astype("datetime64[M]") - _DAYS[0].astype("datetime64[M]")).astype(np.int64)
_HOURS = np.array([1, 1, 1, 1, 1, 1, 2, 4, 5, 6, 6, 7, 8, 7, 6, 6, 7, 8, 10, 12, 13, 11, 7, 3], dtype=np.float64)


def season_of_month() -> npt.NDArray[np.int64]:
    """Return (MONTHS,): 0 spring, 1 summer, 2 autumn, 3 winter, for the northern half of the world."""
    calendar_months = (np.arange(MONTHS) + 6) % 12 + 1
    return (calendar_months - 3) % 12 // 3


def _shares_of_days() -> npt.NDArray[np.float64]:
    """Return the cumulated share of a year's events by day: more on weekends, most before the holidays."""
    weekday = (_DAYS.astype(np.int64) + 3) % 7
    weights = np.where(weekday >= 5, 1.3, 1.0) * np.array([1, 1, 1, 1, 1.4, 1.8, 1.1, 1, 1, 1, 1, 1])[_MONTH_OF_DAY]
    shares: npt.NDArray[np.float64] = np.cumsum(weights / weights.sum())
    return shares


def draw_times(
    shopper: npt.NDArray[np.int64], shoppers: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.int64]]:
    """Draw a time for each pick, none before its shopper joined.

    Args:
        shopper: (n,) row number of the shopper of each pick.
        shoppers: how many shoppers there are.
        rng: the source of chance.

    Returns:
        Times (n,) in seconds, and months (n,) counted from the start of the year.
    """
    joined = rng.uniform(0, 0.85, shoppers)[shopper]
    day = np.searchsorted(_shares_of_days(), joined + (1 - joined) * rng.random(len(shopper))).clip(0, len(_DAYS) - 1)
    hour = np.searchsorted(_HOURS.cumsum() / _HOURS.sum(), rng.random(len(shopper)))
    seconds = hour * 3600 + rng.integers(3600, size=len(shopper))
    return _DAYS[day].astype("datetime64[s]") + seconds.astype("timedelta64[s]"), _MONTH_OF_DAY[day]
