"""Results for each shopper, computed again only when the shopper's weights or item vectors change."""

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import sparse

from vlm4rec_search.common.cache import RAW, Cache
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.vectors import Ints, Vectors

BATCH = 512
_WORKERS = 2  # threads: numpy releases the interpreter's lock
_SPARE_RATIO = 3  # results of earlier histories kept for each result in use: other environments may use them
_ALWAYS_KEPT = 50_000  # results kept in any case, so that a trial on a small data set deletes none of a large one


def compute_changed_rows(
    kind: str,
    producer: str,
    relative: sparse.csr_array,
    items: Vectors,
    compute: Callable[[Ints], list[bytes]],
    cache: Path | None,
) -> list[bytes]:
    """Return a result for each row of `relative` (u, n), computing those that the cache does not have.

    Decay is relative to the shopper's own latest event and the rows are scaled, so that neither another `as_of` nor
    the events of another shopper change a key.

    Args:
        kind: kind of result in the ledger, such as profile.
        producer: version and settings of the arithmetic.
        relative: weights, each row divided by its largest; the key contains them rounded to float32.
        items: float32 (n, d), part of the key.
        compute: computes the results of some rows, by their numbers.
        cache: folder of the results; None computes everything.

    Raises:
        RunError: the cache cannot be used.
    """
    rows = np.arange(relative.shape[0])
    if cache is None:
        return [result for low in range(0, len(rows), BATCH) for result in compute(rows[low : low + BATCH])]
    keys = _row_keys(f"{kind} {producer}", relative, items)
    first_rows: dict[str, int] = {}
    for row, key in enumerate(keys):
        first_rows.setdefault(key, row)
    with Cache(cache) as store:
        results = store.get_or_compute(
            kind,
            producer,
            first_rows,
            lambda batch: compute(np.array(batch, dtype=np.int64)),
            RAW,
            batch_size=BATCH,
            workers=_WORKERS,
            label=f"{kind} of shoppers",
        ).values
        store.trim(kind, keys, max(_SPARE_RATIO * len(keys), _ALWAYS_KEPT))
    if missing := set(keys) - results.keys():
        raise RunError(f"{len(missing)} results of {kind} are missing: plan again")
    return [results[key] for key in keys]


def _row_keys(producer: str, relative: sparse.csr_array, items: Vectors) -> list[str]:
    """Return a hash of the item vectors and weights of each row, in the order of the columns."""
    digests = [hashlib.sha256(vector.tobytes()).digest()[:16] for vector in items]
    vectors = np.frombuffer(b"".join(digests), dtype="S16" if digests else "S1")[relative.indices]
    weights = relative.data.astype("<f4")
    return [
        hashlib.sha256(
            producer.encode() + b"\0" + vectors[low:high].tobytes() + weights[low:high].tobytes()
        ).hexdigest()
        for low, high in pairwise(relative.indptr)
    ]
