"""No label reaches a captioner by another way than the pixels: shuffled photos take every planted effect away."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner

from vlm4rec_search.captions.table import caption_items
from vlm4rec_search.cli import main

ITEMS = 120


def agreement(captions: list[str], labels: list[str]) -> float:
    """Return the share of items whose label is that of the item with the most similar words (Jaccard, first wins)."""
    words = [set(caption.lower().replace(",", " ").replace(";", " ").split()) for caption in captions]
    similar = np.array([[len(a & b) / len(a | b) for b in words] for a in words])
    np.fill_diagonal(similar, -1.0)
    nearest = similar.argmax(axis=1)
    return float(np.mean([labels[at] == labels[other] for at, other in enumerate(nearest)]))


def test_shuffled_photos_take_the_planted_effects_along(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shop = ["shop", "--to", str(data), "--items", str(ITEMS), "--shoppers", "2", "--clean", "--world", "photo"]
    assert CliRunner().invoke(main, shop).exit_code == 0
    with (data / "items.csv").open() as file:
        items = pd.DataFrame(list(csv.DictReader(file)))
    with (data / "labels.csv").open() as file:
        labels = list(csv.DictReader(file))
    items["category"] = None  # the one thing besides pixels that this captioner may use
    order = np.random.default_rng(3).permutation(len(items))
    real = list(caption_items(items, "attributes", data, tmp_path / "cache")["caption"])

    # The bytes change places, the file names stay: what names, titles or rows tell still belongs to the old item.
    files = [data / image for image in items["image"]]
    contents = [file.read_bytes() for file in files]
    for file, source in zip(files, order, strict=True):
        file.write_bytes(contents[source])
    shuffled = list(caption_items(items, "attributes", data, tmp_path / "cache")["caption"])
    assert shuffled == [real[source] for source in order], "each caption goes where its photo goes"

    for label in ("style", "material", "shown_colour", "shown_pattern"):
        planted = [row[label] for row in labels]
        chance = float(np.mean([planted.count(value) - 1 for value in planted])) / (ITEMS - 1)
        assert agreement(real, planted) > 2 * chance, label
        assert abs(agreement(shuffled, planted) - chance) < 0.12, label  # three standard errors of a share of 120
