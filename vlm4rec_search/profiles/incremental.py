"""Each shopper's result once: found again by the weights and the vectors of the history, counted in the ledger."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import sparse

from vlm4rec_search.common.cache.cache import Cache, Result
from vlm4rec_search.common.cache.policy import Effort
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.profiles.histories import Integers, Vectors

BATCH = 512
_WORKERS = 2  # threads: numpy works outside of the interpreter's lock
_SPARE = 3  # results of earlier histories that are kept for each one in use, for other moments and environments
_ALWAYS = 50_000  # so many are kept in any case: a trial on a small data set does not cost the large one's
Compute = Callable[[Integers], list[bytes]]


def computed_once(
    kind: str, maker: str, relative: sparse.csr_array, items: Vectors, compute: Compute, cache: Path | None
) -> list[bytes]:
    """Return a result for each row of `relative` (u, n), computing those that the cache does not have.

    Decay is relative to the shopper's own latest event and the rows are scaled, so that neither another `as_of` nor
    another shopper's events change a key.

    Args:
        kind: for the ledger, such as `profile`.
        maker: version and settings of the arithmetic.
        relative: weights, each row divided by its largest; they count to float32.
        items: float32 (n, d); their values are part of the key.
        compute: rows to results.
        cache: folder of the results; None computes everything.

    Raises:
        RunError: the cache cannot be used.
    """
    rows = np.arange(relative.shape[0])
    if cache is None:
        return [value for low in range(0, len(rows), BATCH) for value in compute(rows[low : low + BATCH])]
    keys = _keys(f"{kind} {maker}", relative, items)

    def batch(positions: Sequence[int]) -> list[Result]:
        return list(compute(np.array(positions, dtype=np.int64)))

    label = f"{kind} of shoppers"
    with Cache(cache) as store:
        filled = store.fill(kind, maker, keys, batch, batch_size=BATCH, label=label, effort=Effort(workers=_WORKERS))
        store.trim(kind, keys, max(_SPARE * len(keys), _ALWAYS))
    values = [value for value in filled.values if isinstance(value, bytes)]
    if len(values) != len(keys):
        raise RunError(f"{len(keys) - len(values)} of {len(keys)} results of {kind} are missing: plan again")
    return values


def _keys(maker: str, relative: sparse.csr_array, items: Vectors) -> list[str]:
    """Hash the vectors and weights of each row, in order of columns."""
    digests = [hashlib.sha256(vector.tobytes()).digest()[:16] for vector in items]
    vectors = np.frombuffer(b"".join(digests), dtype="S16" if digests else "S1")[relative.indices]
    weights = relative.data.astype("<f4")
    return [
        hashlib.sha256(maker.encode() + b"\0" + vectors[low:high].tobytes() + weights[low:high].tobytes()).hexdigest()
        for low, high in pairwise(relative.indptr)
    ]
