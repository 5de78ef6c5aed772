"""The time that the caption pipeline needs for each 1 Mpx photo on one core, without the captioner.

    python -m benchmarks.caption_pipeline

The captioner answers immediately. The measured time is for locating and hashing the file, computing the cache key,
decoding and shrinking the photo (its sides exceed `LONGEST_SIDE`), and storing and validating the answer. CPU time is
shown beside wall time, which a busy machine stretches. A second run over the same photos shows the time for a cached
caption.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.generate import caption_photos
from vlm4rec_search.common.cache import Cache, FillPolicy
from vlm4rec_search.datasets.photos.locate import locate_photos

BOUND_MS = 20.0
MEGAPIXEL = (1250, 800)
"""Width and height in pixels; larger than a captioner receives, so that the photo is also shrunk."""
TEXT = (
    "A navy cotton shirt with fine white stripes and a button-down collar, number {}. The cut is slim and the cuffs "
    "are plain. It suits the office as well as a casual weekend outdoors."
)


class InstantCaptioner(Captioner):
    """Answers immediately. With a `batch_size` of 1, like the client of a server, every answer is a commit."""

    id, prompt, batch_size = "instant@1", "title-1", 1

    def render(self, context: Context) -> str:
        return context.title

    def caption(self, photos: Sequence[Image.Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        return [Caption(TEXT.format(prompt)) for prompt in prompts]


def draw_photos(folder: Path, photos: int, size: tuple[int, int], kind: str) -> list[str]:
    """Write photos with soft shapes and noise, which compress like real ones; return their names."""
    random = np.random.default_rng(7)
    names = []
    for number in range(photos):
        soft = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize(size)
        noisy = np.asarray(soft, dtype=np.int16) + random.normal(0, 6, (size[1], size[0], 1))
        name = f"{number}.{kind}"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
        names.append(name)
    return names


def time_per_photo(work: Callable[[], None], photos: int) -> tuple[float, float]:
    """Return the wall and CPU milliseconds for one photo."""
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1e3 / photos, (time.process_time() - busy) * 1e3 / photos


def measure(size: tuple[int, int], photos: int, kind: str) -> tuple[float, float]:
    """Measure photos of one size and kind, print a line, and return wall and CPU milliseconds for an uncached photo."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        names = draw_photos(folder, photos, size, kind)
        contexts = [Context(f"Item {name}", "shirts") for name in names]

        def work() -> None:
            with Cache(folder / "cache") as cache:
                photo_files = locate_photos(names, folder, cache)
                outcomes, _ = caption_photos(InstantCaptioner(), photo_files, contexts, cache, FillPolicy())
            if any(outcome.status != "ok" for outcome in outcomes):
                raise SystemExit(f"a photo was not captioned: {outcomes[0]}")

        new, again = time_per_photo(work, photos), time_per_photo(work, photos)
    shown = f"{new[0]:8.1f} ({new[1]:.1f} CPU)   cached {again[0]:6.2f} ({again[1]:.2f} CPU)"
    print(f"  {size[0] * size[1] / 1e6:5.1f} Mpx {kind:4} {shown}")
    return new


def main() -> None:
    """Print the table, and exit with 1 if a 1 Mpx JPEG needs `BOUND_MS` of CPU time or more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=100, help="number of photos of each kind")
    photos = parser.parse_args().photos
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{photos} photos of each kind on one core; milliseconds for one")
    measure((64, 64), 10, "jpg")  # warm up
    _, busy = measure(MEGAPIXEL, photos, "jpg")
    measure(MEGAPIXEL, photos, "png")
    measure((3000, 3000), max(photos // 5, 1), "jpg")
    print(f"overhead for a 1 Mpx JPEG: {busy:.1f} ms of CPU; the bound is {BOUND_MS:.0f}")
    raise SystemExit(busy >= BOUND_MS)


if __name__ == "__main__":
    main()
