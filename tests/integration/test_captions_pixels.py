"""Captioners learn the labels of a shop from the pixels only: shuffled photos remove every planted effect."""

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


def measure_agreement(captions: list[str], labels: list[str]) -> float:
    """Return the share of items with the label of the item whose caption has the most similar words (Jaccard)."""
    words = [set(caption.lower().replace(",", " ").replace(";", " ").split()) for caption in captions]
    similar = np.array([[len(a & b) / len(a | b) for b in words] for a in words])
    np.fill_diagonal(similar, -1.0)
    nearest = similar.argmax(axis=1)
    return float(np.mean([labels[at] == labels[other] for at, other in enumerate(nearest)]))


def build_shop(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw a shop and return its items and the labels of their photos."""
    options = ["shop", "--to", str(folder), "--items", str(ITEMS), "--shoppers", "2", "--clean", "--world", "photo"]
    assert CliRunner().invoke(main, options).exit_code == 0
    return pd.read_csv(folder / "items.csv", dtype=str), pd.read_csv(folder / "labels.csv", dtype=str)


def shuffle_photos(files: Sequence[Path]) -> list[int]:
    """Permute the contents of the photo files, and return for each file the position of its new content.

    File names, titles and rows still belong to the old items.
    """
    order: list[int] = np.random.default_rng(3).permutation(len(files)).tolist()
    contents = [file.read_bytes() for file in files]
    for file, source in zip(files, order, strict=True):
        file.write_bytes(contents[source])
    return order


def chance_agreement(values: Sequence[str]) -> float:
    """Return the probability that two different items have the same value."""
    return float(np.mean([list(values).count(value) - 1 for value in values])) / (len(values) - 1)


def test_shuffled_photos_move_the_planted_effects(tmp_path: Path) -> None:
    items, labels = build_shop(tmp_path / "data")
    items["category"] = None  # this captioner also uses the category

    def captions() -> list[str]:
        captioner = load_captioner("attributes", Settings())
        return list(caption_items(items, captioner, tmp_path / "data", tmp_path / "cache")["caption"])

    real = captions()
    order = shuffle_photos([tmp_path / "data" / image for image in items["image"]])
    shuffled = captions()
    assert shuffled == [real[source] for source in order], "each caption follows its photo"
    for label in ("style", "material", "shown_colour", "shown_pattern"):
        planted = list(labels[label])
        assert measure_agreement(real, planted) > 2 * chance_agreement(planted), label
        assert abs(measure_agreement(shuffled, planted) - chance_agreement(planted)) < 0.12, (
            label
        )  # three standard errors of 120


def test_the_small_model_uses_nothing_but_the_photo(tmp_path: Path) -> None:
    items, labels = build_shop(tmp_path / "data")

    def measure_accuracy() -> dict[str, float]:
        captioner = load_captioner("tiny", Settings())
        captions = caption_items(items, captioner, tmp_path / "data", tmp_path / "cache")["caption"]
        named = pd.DataFrame([read_attributes(caption) for caption in captions])
        return {name: float((named[name] == labels[column]).mean()) for name, column in SHOWN.items()}

    before = measure_accuracy()
    shuffle_photos([tmp_path / "data" / image for image in items["image"]])
    after = measure_accuracy()
    for name, column in SHOWN.items():
        assert before[name] > 0.85, name
        assert abs(after[name] - chance_agreement(list(labels[column]))) < 0.14, name
