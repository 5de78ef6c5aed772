"""No label reaches a captioner by another way than the pixels: shuffled photos take every planted effect away."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner

from vlm4rec_search.captioning.captioners.tiny.sentences import read_attributes
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.captioning.table import caption_items
from vlm4rec_search.cli import main
from vlm4rec_search.common.settings import Settings

ITEMS = 120
SHOWN = {
    "category": "shown_shape",
    "style": "shown_style",
    "material": "shown_material",
    "use": "shown_use",
    "colour": "shown_colour",
    "pattern": "shown_pattern",
}


def agreement(captions: list[str], labels: list[str]) -> float:
    """Return the share of items whose label is that of the item with the most similar words (Jaccard, first wins)."""
    words = [set(caption.lower().replace(",", " ").replace(";", " ").split()) for caption in captions]
    similar = np.array([[len(a & b) / len(a | b) for b in words] for a in words])
    np.fill_diagonal(similar, -1.0)
    nearest = similar.argmax(axis=1)
    return float(np.mean([labels[at] == labels[other] for at, other in enumerate(nearest)]))


def shop(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw a shop and return its items and what their photos show."""
    options = ["shop", "--to", str(folder), "--items", str(ITEMS), "--shoppers", "2", "--clean", "--world", "photo"]
    assert CliRunner().invoke(main, options).exit_code == 0
    return pd.read_csv(folder / "items.csv", dtype=str), pd.read_csv(folder / "labels.csv", dtype=str)


def shuffle(files: Sequence[Path]) -> list[int]:
    """Let the bytes of photos change places while the names stay, and return whose photo each has now.

    What names, titles or rows tell still belongs to the old item.
    """
    order: list[int] = np.random.default_rng(3).permutation(len(files)).tolist()
    contents = [file.read_bytes() for file in files]
    for file, source in zip(files, order, strict=True):
        file.write_bytes(contents[source])
    return order


def chance(values: Sequence[str]) -> float:
    """Return how often two different items have the same value."""
    return float(np.mean([list(values).count(value) - 1 for value in values])) / (len(values) - 1)


def test_shuffled_photos_take_the_planted_effects_along(tmp_path: Path) -> None:
    items, labels = shop(tmp_path / "data")
    items["category"] = None  # the one thing besides pixels that this captioner may use

    def captions() -> list[str]:
        captioner = load_captioner("attributes", Settings())
        return list(caption_items(items, captioner, tmp_path / "data", tmp_path / "cache")["caption"])

    real = captions()
    order = shuffle([tmp_path / "data" / image for image in items["image"]])
    shuffled = captions()
    assert shuffled == [real[source] for source in order], "each caption goes where its photo goes"
    for label in ("style", "material", "shown_colour", "shown_pattern"):
        planted = list(labels[label])
        assert agreement(real, planted) > 2 * chance(planted), label
        assert abs(agreement(shuffled, planted) - chance(planted)) < 0.12, label  # three standard errors of 120


def test_the_small_model_reads_nothing_but_the_photo(tmp_path: Path) -> None:
    items, labels = shop(tmp_path / "data")

    def right() -> dict[str, float]:
        captioner = load_captioner("tiny", Settings())
        captions = caption_items(items, captioner, tmp_path / "data", tmp_path / "cache")["caption"]
        said = [read_attributes(caption) for caption in captions]
        return {name: float(np.mean([one[name] == label for one, label in zip(said, labels[column], strict=True)]))
                for name, column in SHOWN.items()}  # fmt: skip

    before = right()
    shuffle([tmp_path / "data" / image for image in items["image"]])
    after = right()
    for name, column in SHOWN.items():
        assert before[name] > 0.85, name
        assert abs(after[name] - chance(list(labels[column]))) < 0.14, name
