"""Accuracy and speed of the packaged small model: `python -m benchmarks.tiny_captioner` (1,000 drawings, 2 minutes).

The drawings are made anew from seeds that training never used; each attribute that a caption names is compared with
what was drawn. `--captioner` measures another one on the same photos, where its sentences use the same words.
"""

import argparse
import time
from collections import Counter

from vlm4rec_search.captioning.captioners.tiny.sentences import attributes, read_attributes
from vlm4rec_search.captioning.captioners.tiny.train import PHOTOS, accuracy, captions_of, held_out
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.datasets.demo_shop.looks import Look

BAR = 0.95


def confusions(looks: list[Look], captions: list[str]) -> list[str]:
    """Return the most frequent mistakes, `attribute: shown -> said`, with their numbers."""
    wrong = Counter[str]()
    for look, caption in zip(looks, captions, strict=True):
        said = read_attributes(caption)
        wrong.update(f"{key}: {value} -> {said[key]}" for key, value in attributes(look).items() if said[key] != value)
    return [f"{number:5d}  {mistake}" for mistake, number in wrong.most_common(8)]


def main() -> None:
    """Draw, caption and print the table; exit 1 when an attribute is under the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--captioner", default="tiny")
    asked = parser.parse_args()
    captioner = load_captioner(asked.captioner)
    photos, looks = held_out(asked.photos)
    captions_of(captioner, photos[:1])  # loads the weights
    started = time.perf_counter()
    captions = captions_of(captioner, photos)
    seconds = time.perf_counter() - started
    shares = accuracy(looks, captions)
    print(f"{captioner.id}: {len(photos):,} drawings in {seconds:.1f} s, {len(photos) / seconds:.0f} photos/s")
    for name, share in shares.items():
        print(f"{name:<14} {share:.3f}")
    print("most frequent mistakes", *confusions(looks, captions), sep="\n")
    print("for example:", *captions[:3], sep="\n  ")
    if min(share for name, share in shares.items() if name != "all of them") < BAR:
        raise SystemExit(f"an attribute is under {BAR}")


if __name__ == "__main__":
    main()
