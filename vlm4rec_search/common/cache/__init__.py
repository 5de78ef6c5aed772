"""The cache of model calls: every result is paid for once, and `Cache.get_or_compute` is the way to it."""

from vlm4rec_search.common.cache.cache import RAW, Cache, Codec, FillPolicy, Record, Results
from vlm4rec_search.common.cache.cost import ASSUMED_IN, ASSUMED_OUT, CostMeter, Prices
from vlm4rec_search.common.cache.store import FILE, RETRY, Attempt, Failure, LedgerRow, result_key, stored_result

__all__ = [
    "ASSUMED_IN",
    "ASSUMED_OUT",
    "FILE",
    "RAW",
    "RETRY",
    "Attempt",
    "Cache",
    "Codec",
    "CostMeter",
    "Failure",
    "FillPolicy",
    "LedgerRow",
    "Prices",
    "Record",
    "Results",
    "result_key",
    "stored_result",
]
