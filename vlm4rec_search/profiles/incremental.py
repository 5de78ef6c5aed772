"""Results for each shopper, computed again only when the shopper's weights or item vectors change."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse

from vlm4rec_search.common.cache import RAW, Cache, FillPolicy
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import lines
from vlm4rec_search.common.vectors import Ints, Vectors

BATCH = 512
BLOCK = (
    20_000  # shoppers whose results are in memory at once: 30 MB of vectors of 384 numbers, four times for interests
)
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
) -> Iterator[tuple[Ints, list[bytes]]]:
    """Yield blocks of rows of `relative` (u, n) and their results, computing those that the cache does not have.

    Decay is relative to the shopper's own latest event and the rows are scaled, so that neither another `as_of` nor
    the events of another shopper change a key. There is always a block, be it an empty one.

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
    count = relative.shape[0]
    blocks = [np.arange(low, min(low + BLOCK, count)) for low in range(0, max(count, 1), BLOCK)]
    if cache is None:
        for rows in blocks:
            batches = [rows[low : low + BATCH] for low in range(0, len(rows), BATCH)]
            yield rows, [result for batch in batches for result in compute(batch)]
        return
    digests = [hashlib.sha256(vector.tobytes()).digest()[:16] for vector in items]
    vectors = np.frombuffer(b"".join(digests), dtype="S16" if digests else "S1")
    used: list[str] = []
    with Cache(cache) as store, lines(f"{kind} of shoppers", count) as advance:
        policy = FillPolicy(rows={}, show=lambda *_: nullcontext(lambda _: None))  # one row of the ledger, one progress
        for rows in blocks:
            keys = _row_keys(f"{kind} {producer}", relative[rows], vectors)
            first_rows: dict[str, int] = {}
            for row, key in zip(rows.tolist(), keys, strict=True):
                first_rows.setdefault(key, row)
            results = store.get_or_compute(
                kind,
                producer,
                first_rows,
                lambda batch: compute(np.array(batch, dtype=np.int64)),
                RAW,
                policy,
                batch_size=BATCH,
                workers=_WORKERS,
            ).values
            if missing := set(keys) - results.keys():
                raise RunError(f"{len(missing)} results of {kind} are missing: plan again")
            used += keys
            advance(len(rows))
            yield rows, [results[key] for key in keys]
        store.trim(kind, used, max(_SPARE_RATIO * len(used), _ALWAYS_KEPT))


def _row_keys(producer: str, relative: sparse.csr_array, item_digests: npt.NDArray[np.bytes_]) -> list[str]:
    """Return a hash of the item vectors and weights of each row, in the order of the columns."""
    vectors = item_digests[relative.indices]
    weights = relative.data.astype("<f4")
    return [
        hashlib.sha256(
            producer.encode() + b"\0" + vectors[low:high].tobytes() + weights[low:high].tobytes()
        ).hexdigest()
        for low, high in pairwise(relative.indptr)
    ]
