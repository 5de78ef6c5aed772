"""Ranking of an evaluation beside the bare product and the reference's loop.

The reference ranks user by user: scikit-learn's cosine similarity of the mean history vector with all items, then a
full argsort. Here blocks of users are scored by one product each and partitioned; seen items are masked.

    python -m benchmarks.evaluation

prints the seconds of every system that needs no tables, the learned ones with all seeds, on 5,000 items and 1,000 users
of a made log: chosen on validation, fitted again, scored and summarised. At most 600 s are wanted.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import cosine_similarity

from benchmarks.measure import Contest
from vlm4rec_search.common.vectors import Ints, Scores, unit
from vlm4rec_search.evaluation.data import Catalogue, Split, Targets, incidence
from vlm4rec_search.evaluation.results import summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems import registry
from vlm4rec_search.evaluation.systems.content import OnlyOne
from vlm4rec_search.evaluation.top_k import CELLS, rank

DIMENSION, LENGTH, K, USERS = 384, 8, 50, 200


def made(users: int, items: int, draw: np.random.Generator) -> Split:
    """Return users with `LENGTH` random items each; vectors are random unit rows."""
    vectors = unit(draw.standard_normal((items, DIMENSION), dtype=np.float32))
    names = np.arange(items).astype(str).astype(object)
    catalogue = Catalogue(names, names, names, dict.fromkeys(("document", "description"), vectors))
    rows = np.repeat(np.arange(users), LENGTH)
    taken = draw.integers(0, items, len(rows))
    weights = incidence(rows, taken, (users, items))
    now = np.datetime64("2025-01-01", "us")
    everything = np.ones(items, dtype=np.bool_)
    user_ids = np.arange(users).astype(str).astype(object)
    return Split(catalogue, user_ids, rows, taken, np.full(len(rows), now), weights, now, everything)


def ours(split: Split, users: Ints) -> Ints:
    """Rank as an evaluation does, fit included."""
    system = OnlyOne("description-only", "description")
    system.fit(split)
    return rank(system.scores, split, users, K)


def product(profiles: Scores, vectors: Scores) -> None:
    """Multiply by blocks of the same size, and do nothing with the scores."""
    step = max(1, CELLS // len(vectors))
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


@contextmanager
def ranking(items: int) -> Iterator[Contest]:
    """Rank all items for `USERS` users."""
    split = made(USERS, items, np.random.default_rng(7))
    vectors, users = split.catalogue.vectors["description"], np.arange(USERS)
    profiles = unit((split.weights @ vectors).astype(np.float32))
    contest = Contest(rounds=(3, 7), seconds=15.0)
    contest.ours("rank", lambda: ours(split, users), per=USERS)
    contest.rival("reference's loop", lambda: lambda: loop(split, users), ["rank"], per=USERS)
    contest.rival(
        "bare product", lambda: lambda: product(profiles, vectors), ["rank"], per=USERS, note="nothing is selected"
    )
    yield contest


def world(users: int, items: int, draw: np.random.Generator) -> Parts:
    """Return users who take 25 items of two of 50 groups each: validation knows 15 and wants 5, test knows 20.

    Vectors tell the group in 32 of their directions, the rest is noise: there is something to learn.
    """
    group = draw.integers(0, 50, items)
    kinds = {kind: _noisy(group, size, draw) for kind, size in (("description", 384), ("title", 384), ("vision", 1280))}
    names = np.array([f"thing {group[item]} number {item}" for item in range(items)], dtype=object)
    tastes = draw.integers(0, 50, (users, 2))
    order, starts = np.argsort(group, kind="stable"), np.searchsorted(np.sort(group), np.arange(51))
    picks = tastes[np.arange(users)[:, None], draw.integers(0, 2, (users, 25))]
    low, high = starts[picks], starts[picks + 1]
    taken = order[low + (draw.random(picks.shape) * (high - low)).astype(np.int64)]
    catalogue = Catalogue(names, names, names, {**kinds, "document": kinds["description"]})
    return Parts(_part(catalogue, taken[:, :15], taken[:, 15:20]), _part(catalogue, taken[:, :20], taken[:, 20:]))


def _noisy(group: Ints, size: int, draw: np.random.Generator) -> Scores:
    vectors = draw.standard_normal((len(group), size), dtype=np.float32)
    vectors[:, :32] += draw.standard_normal((50, 32), dtype=np.float32)[group]
    return unit(vectors)


def _part(catalogue: Catalogue, known: Ints, wanted: Ints) -> Part:
    users, length = known.shape
    shape = users, len(catalogue.item_ids)
    rows, items = np.repeat(np.arange(users), length), known.ravel()
    days = np.tile(np.arange(length), users) * np.timedelta64(1, "D")
    times = np.datetime64("2025-01-01", "us") + days
    user_ids, everything = np.arange(users).astype(str).astype(object), np.ones(shape[1], dtype=np.bool_)
    split = Split(catalogue, user_ids, rows, items, times, incidence(rows, items, shape), times.max(), everything)
    found = incidence(np.repeat(np.arange(users), wanted.shape[1]), wanted.ravel(), shape)
    return Part(split, Targets(np.arange(users), found))


def all_systems(users: int, items: int) -> None:
    """Print the seconds of every system, and of the whole."""
    systems = [make() for name, make in registry().items() if not name.startswith("product-")]
    parts = world(users, items, np.random.default_rng(7))
    started, worked = time.perf_counter(), time.process_time()
    evaluation = evaluate(parts, systems, lambda name: print(name, flush=True))
    results = summarise(evaluation, {}, 7)
    found = {row.system: row for row in results.rows if row.metric == "nDCG@10"}
    for outcome in evaluation.comparisons[0].outcomes:
        value = found[outcome.system].value or 0.0
        print(f"  {outcome.system:36} {outcome.seconds:8.1f} s   nDCG@10 {value:.4f}   {outcome.setting}")
    took, cpu = time.perf_counter() - started, time.process_time() - worked
    print(f"{users:,} users, {items:,} items: {took:.0f} s ({cpu:.0f} s of processors), at most 600 wanted")


if __name__ == "__main__":
    all_systems(1_000, 5_000)
