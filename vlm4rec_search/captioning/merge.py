"""Captions of several caches in one: N machines caption a part of the catalogue each, and one takes over the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm4rec_search.captioning.base import Context
from vlm4rec_search.captioning.batch import is_being_written
from vlm4rec_search.captioning.generate import ENTRY, IN_BATCH, validate_entry
from vlm4rec_search.common.cache import FILE, Cache, CostMeter, Prices
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings

_AT_ONCE = 1000
_ORIGIN = "merge"


@dataclass
class MergedCaptions:
    """What a merge took over from one captioner.

    Attributes:
        captioner: id.
        computed, failed: captions and failures that were missing here, or known as requests in a batch only.
        replaced: answers here that cannot be used, such as refusals, where that of the other cache can.
        known: all other captions and failures that were here.
        tokens_in, tokens_out, cost: of the new captions and answers, at the prices of the settings.
    """

    captioner: str
    computed: int = 0
    failed: int = 0
    replaced: int = 0
    known: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


def merge_captions(settings: Settings, folders: Sequence[Path]) -> list[MergedCaptions]:
    """Copy captions and failures of other caches that are missing in the cache of the settings.

    What is here stays, with two exceptions. A request in a batch file that an earlier merge took over ends with a
    failure there. An answer that cannot be used gives way to one that can. A request that is being written to a file
    now is left out. The other caches are not changed.

    Returns:
        One row for each captioner.

    Raises:
        UsageError: a folder is no cache, or the cache of the settings itself.
        RunError: a cache cannot be used.
    """
    for folder in folders:
        if not (folder / FILE).is_file():
            raise UsageError(f"{folder} is no cache: it has no file {FILE}")
        if folder.resolve() == settings.cache.resolve():
            raise UsageError(f"{folder} is the cache of this project: name the caches of the other machines")
    merged: dict[str, MergedCaptions] = {}
    with Cache(settings.cache) as cache:
        for folder in folders:
            with Cache(folder) as other:
                _merge(cache, other, Prices.from_settings(settings), merged)
    return list(merged.values())


def _is_usable(stored: bytes) -> bool:
    """Return whether a plan would take an answer; without the item's texts, which tell an echo of them."""
    return validate_entry(ENTRY.decode(stored), Context()).status == "ok"


def _merge(cache: Cache, other: Cache, prices: Prices, merged: dict[str, MergedCaptions]) -> None:
    failures, merged_before = other.failures_of("caption"), cache.failures_of("caption", _ORIGIN)
    for captioner in sorted({*other.producers("caption"), *failures}):
        row = merged.setdefault(captioner, MergedCaptions(captioner))
        meter = CostMeter(prices)
        with cache.recording("caption", captioner, _ORIGIN, meter) as record:
            for results in other.results_of("caption", captioner, _AT_ONCE):
                known = cache.read(list(results))
                differing = [key for key, value in known.items() if value != results[key]]
                replaced = {key for key in differing if _is_usable(results[key]) and not _is_usable(known[key])}
                new = {key: value for key, value in results.items() if key not in known or key in replaced}
                for value in new.values():
                    entry = ENTRY.decode(value)
                    meter.add(entry.get("tokens_in", 0), entry.get("tokens_out", 0))
                record(new, {})
                row.computed += len(new) - len(replaced)
                row.replaced += len(replaced)
                row.known += len(known) - len(replaced)
            # The export that writes now may be killed: taken over, its requests would look like some to write here.
            listed = failures.get(captioner, {}).items()
            failed = {key: failure for key, failure in listed if not is_being_written(failure)}
            waiting = {key for key, failure in merged_before.get(captioner, {}).items() if failure.status == IN_BATCH}
            ended = {key for key in waiting & failed.keys() if failed[key].status != IN_BATCH}
            known_keys = cache.read(list(failed)).keys() | cache.failures(list(failed)).keys() - ended
            missing = {key: failure for key, failure in failed.items() if key not in known_keys}
            record({}, missing)
            row.failed += len(missing)
            row.known += len(failed) - len(missing)
        row.tokens_in += meter.tokens_in
        row.tokens_out += meter.tokens_out
        row.cost += meter.cost
