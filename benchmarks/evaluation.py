"""Ranking of an evaluation: 2,000 users over 38,493 items x 384, beside the bare product and the reference's loop.

    python -m benchmarks.evaluation

The reference ranks user by user: scikit-learn's cosine similarity of the mean history vector with all items, then a
full argsort. Here blocks of users are scored by one product each and partitioned; seen items are masked. All three are
timed in one run, so that their ratios do not depend on the machine.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import cosine_similarity

from vlm4rec_search.evaluation.data import Catalogue, Ints, Scores, Split, incidence
from vlm4rec_search.evaluation.ranking import CELLS, rank
from vlm4rec_search.evaluation.systems.base import unit
from vlm4rec_search.evaluation.systems.content import OnlyOne

DIMENSION, LENGTH, K = 384, 8, 50


def made(users: int, items: int, draw: np.random.Generator) -> Split:
    """Return users with `LENGTH` random items each; vectors are random unit rows."""
    vectors = unit(draw.standard_normal((items, DIMENSION), dtype=np.float32))
    names = np.arange(items).astype(str).astype(object)
    catalogue = Catalogue(names, names, names, {"description": vectors})
    rows = np.repeat(np.arange(users), LENGTH)
    taken = draw.integers(0, items, len(rows))
    weights = incidence(rows, taken, (users, items))
    now = np.datetime64("2025-01-01", "us")
    everything = np.ones(items, dtype=np.bool_)
    user_ids = np.arange(users).astype(str).astype(object)
    return Split(catalogue, user_ids, rows, taken, np.full(len(rows), now), weights, now, everything)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of a few runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def ours(split: Split, users: Ints) -> Ints:
    """Rank as an evaluation does, fit included."""
    system = OnlyOne("description-only", "description")
    system.fit(split)
    return rank(system.scores, split, users, K)


def product(profiles: Scores, vectors: Scores) -> None:
    """Multiply by blocks of the same size, and do nothing with the scores."""
    step = CELLS // len(vectors)
    for low in range(0, len(profiles), step):
        profiles[low : low + step] @ vectors.T


def loop(split: Split, users: Ints) -> npt.NDArray[np.int64]:
    """Rank as the reference does."""
    vectors = split.catalogue.vectors["description"]
    lists = []
    for user in users:
        history = split.items[split.users == user]
        profile = vectors[history].mean(axis=0, keepdims=True)
        lists.append(np.argsort(-cosine_similarity(profile, vectors)[0])[:K])
    return np.stack(lists)


def main() -> None:
    """Print milliseconds per user and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--items", type=int, default=38_493)
    parser.add_argument("--loop-users", type=int, default=100, help="users of the reference's loop, which is slow")
    sizes = parser.parse_args()
    split = made(sizes.users, sizes.items, np.random.default_rng(7))
    vectors = split.catalogue.vectors["description"]
    profiles = unit((split.weights @ vectors).astype(np.float32))
    users, few = np.arange(sizes.users), np.arange(min(sizes.loop_users, sizes.users))
    product(profiles, vectors)  # wakes the threads up
    bare = seconds(lambda: product(profiles, vectors), 5) / len(users)
    full = seconds(lambda: ours(split, users), 5) / len(users)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    slow = seconds(lambda: loop(split, few), 1) / len(few)
    print(f"{sizes.users:,} users, {sizes.items:,} items x {DIMENSION}, top {K}; milliseconds per user")
    print(f"  bare product      {bare * 1e3:8.3f}")
    print(f"  evaluation        {full * 1e3:8.3f}   {full / bare:.1f} x the bare product, at most 4 wanted")
    print(f"  reference's loop  {slow * 1e3:8.3f}   {slow / full:.0f} x the evaluation, at least 45 wanted")
    print(f"  peak memory before the loop {memory:,.0f} MB, less than 1,000 wanted")


if __name__ == "__main__":
    main()
