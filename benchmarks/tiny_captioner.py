"""Accuracy and speed of the packaged small model: `python -m benchmarks.tiny_captioner` (1,000 drawings, 2 minutes).

The drawings come from seeds that training never used. Each attribute that a caption names is compared with the drawing.
`--captioner` measures another captioner on the same photos, provided that its sentences use the same words.
"""

import argparse
import time
from collections import Counter

from vlm4rec_search.captioning.captioners.tiny.accuracy import (
    TEST_PHOTOS,
    caption_photos,
    draw_held_out,
    measure_accuracy,
)
from vlm4rec_search.captioning.captioners.tiny.sentences import read_attributes, visible_attributes
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.common.settings import settings
from vlm4rec_search.datasets.demo_shop.looks import Look

BAR = 0.95
"""The smallest acceptable accuracy of an attribute."""


def count_mistakes(looks: list[Look], captions: list[str]) -> list[str]:
    """Return the most frequent mistakes with their numbers, as `attribute: shown value -> captioned value`."""
    wrong = Counter[str]()
    for look, caption in zip(looks, captions, strict=True):
        named = read_attributes(caption)
        shown = visible_attributes(look).items()
        wrong.update(f"{name}: {value} -> {named[name]}" for name, value in shown if named[name] != value)
    return [f"{number:5d}  {mistake}" for mistake, number in wrong.most_common(8)]


def main() -> None:
    """Draw and caption photos, print the accuracies, and exit with 1 if one is below `BAR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=TEST_PHOTOS)
    parser.add_argument("--captioner", default="tiny")
    arguments = parser.parse_args()
    captioner = load_captioner(arguments.captioner, settings())
    photos, looks = draw_held_out(arguments.photos)
    caption_photos(captioner, photos[:1])  # loads the weights
    started = time.perf_counter()
    captions = caption_photos(captioner, photos)
    seconds = time.perf_counter() - started
    shares = measure_accuracy(looks, captions)
    print(f"{captioner.id}: {len(photos):,} drawings in {seconds:.1f} s, {len(photos) / seconds:.0f} photos/s")
    for name, share in shares.items():
        print(f"{name:<14} {share:.3f}")
    print("most frequent mistakes", *count_mistakes(looks, captions), sep="\n")
    print("for example:", *captions[:3], sep="\n  ")
    if min(share for name, share in shares.items() if name != "all of them") < BAR:
        raise SystemExit(f"the accuracy of an attribute is below {BAR}")


if __name__ == "__main__":
    main()
