"""Time and memory of what all histories teach: EASE, co-purchases, and what similar shoppers took.

    python -m benchmarks.behaviour

The log is generated: half of what a shopper takes is popular with all, half with a group of 1,000 shoppers. The peak is
that of the whole process, the log included.
"""

import argparse
import resource
import time

import numpy as np
import pandas as pd

from vlm4rec_search.profiles.ease import ease_weights
from vlm4rec_search.profiles.neighbours import item_neighbours
from vlm4rec_search.profiles.shoppers import similar_shoppers
from vlm4rec_search.profiles.taken import Taken

HALF_LIVES = (120.0, 5.0)  # days
GROUP = 1_000  # shoppers


def make_likes(users: int, items: int, events: int) -> Taken:
    """Return who took what in a year."""
    rng = np.random.default_rng(7)
    shopper = rng.integers(0, users, events)
    popular = (items * rng.random(events) ** 3).astype(np.int64)
    groups = max(1, users // GROUP)
    own = shopper % groups * (items // groups) + rng.integers(0, max(1, items // groups), events)
    item = np.where(rng.random(events) < 0.5, popular, own)
    ids = {"user_id": np.char.add("u", shopper.astype(str)), "item_id": np.char.add("i", item.astype(str))}
    return Taken.from_likes(pd.DataFrame({**ids, "days": rng.uniform(0.0, 365.0, events)}))


def main() -> None:
    """Generate the log, compute both tables, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("users", 50_000), ("items", 5_000), ("events", 1_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    likes = make_likes(size.users, size.items, size.events)
    print(f"{size.users:,} shoppers, {size.items:,} items, {size.events:,} events")
    for name, compute in (
        ("similar shoppers", lambda: similar_shoppers(likes, HALF_LIVES)),
        ("co-purchases", lambda: item_neighbours(likes, 365.0)),
        ("EASE", lambda: ease_weights(likes, HALF_LIVES, 100.0)),
    ):
        started = time.perf_counter()
        rows = len(compute())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"  {name}: {rows:,} rows in {time.perf_counter() - started:.1f} s, peak memory so far {peak:.1f} GiB")


if __name__ == "__main__":
    main()
