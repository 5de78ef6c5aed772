"""Fitted systems: numpy gives what torch learned, and a fit that is stale, too new or damaged makes no vectors."""

import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.interaction_logs import DAY, START, planted
from safetensors.numpy import save

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.common.vectors import unit
from vlm4rec_search.datasets.photos.decode import PREPROCESSING
from vlm4rec_search.embeddings.fitted import (
    FILE,
    Fit,
    FittedName,
    FittedSystem,
    file_name,
    fitted_items,
    fitted_variable,
    project,
    read_fitted,
    write_fitted,
)
from vlm4rec_search.evaluation.data import Split, incidence
from vlm4rec_search.evaluation.fit import fit as fit_on_warehouse
from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.systems.learned import Learned
from vlm4rec_search.evaluation.top_k import rank
from vlm4rec_search.pipeline.doctor import find_stale_fit

NOW = datetime(2025, 6, 1)


def learned(system: FittedName) -> Learned:
    """Return a system whose two kinds of vectors have more than 128 numbers and fewer."""
    draw = np.random.default_rng(5)
    log = planted(users=60)
    texts = np.hstack([log.vectors, draw.normal(0, 0.5, (160, 150))])
    split = replace(log, vectors=texts, others={"photo": draw.normal(size=(160, 20))}).split(START + 70 * DAY)
    found = Learned(system, "document", "photo", system)
    found.fit(split)
    return found


def fit(content: bytes, as_of: datetime) -> Fit:
    return Fit(
        as_of=as_of,
        text_recipe="title",
        interactions=9,
        shoppers=3,
        judged=2,
        epochs=1,
        ndcg=0.2,
        ndcg_mean=0.1,
        file=file_name(content),
    )


def keep(folder: Path, moments: dict[datetime, float]) -> FittedSystem:
    """Keep a gating system that takes the first number of the text and the second of the photo, times a number."""
    eye, contents = np.eye(2, dtype=np.float32), {}
    for moment, factor in moments.items():
        numbers = {
            "first_directions": eye, "second_directions": eye,
            "project_first.weight": eye * np.float32(factor), "project_first.bias": eye[0] * 0,
            "project_second.weight": eye, "project_second.bias": eye[0] * 0,
            "gate.weight": np.zeros((2, 4), np.float32), "gate.bias": np.array([100, -100], np.float32),
        }  # fmt: skip
        contents[moment] = save(numbers)
    system = FittedSystem(
        system="gating",
        encoder="text@1",
        image_encoder=f"photo@1 {PREPROCESSING}",
        text_dimension=2,
        photo_dimension=2,
        dimension=2,
        seed=7,
        package="0",
        fits=tuple(fit(content, moment) for moment, content in contents.items()),
    )
    write_fitted(folder, system, {file_name(content): content for content in contents.values()})
    return system


def rows(encoder: str, vector: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"item_id": ["a"], "encoder": [encoder], "vector": [np.array(vector, dtype=np.float32)]})


def made(
    folder: Path, as_of: datetime, recipe: str = "title", encoder: str = "text@1", photos: int = 1, **more: bool
) -> list[list[float]]:
    texts, images = rows(encoder, [0.6, 0.8]), rows("photo@1", [-0.6, 0.8])[:photos]
    items = fitted_items(folder, as_of, recipe, texts, images, **more)
    return [vector.astype(float).round(4).tolist() for vector in items["vector"]]


def tables(as_of: datetime | None, photos: int = 1) -> duckdb.DuckDBPyConnection:
    """Return a database with what `made` gives to the plan."""
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA embeddings; CREATE SCHEMA histories")
    for table, encoder, count in (("item_embeddings", "text@1", 1), ("image_embeddings", "photo@1", photos)):
        connection.execute(f"CREATE TABLE embeddings.{table} (item_id VARCHAR, encoder VARCHAR)")
        connection.execute(f"INSERT INTO embeddings.{table} SELECT 'a', '{encoder}' FROM range({count})")
    connection.execute("CREATE TABLE embeddings.item_texts AS SELECT 'a' AS item_id, 'title' AS recipe")
    connection.execute("CREATE TABLE histories.as_of AS SELECT ?::TIMESTAMP AS as_of", [as_of])
    return connection


@pytest.mark.parametrize("system", ["attention", "gating"])
def test_numpy_gives_the_vectors_that_torch_learned(system: FittedName) -> None:
    of_torch = learned(system)
    vectors = of_torch._split.catalogue.vectors
    found = project(system, of_torch.numbers(), vectors["document"], vectors["photo"])
    assert np.abs(found - of_torch._items).max() < 1e-5
    one = project(system, of_torch.numbers(), vectors["document"][3:4], vectors["photo"][3:4])
    assert np.abs(one - of_torch._items[3:4]).max() < 1e-5, "an item alone, as a new one"


def test_tables_use_the_last_fit_that_knows_nothing_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(tmp_path, {datetime(2025, 1, 1): 1.0, datetime(2025, 6, 1): -1.0})
    assert made(tmp_path, datetime(2025, 6, 1)) == [[-0.6, 0.8]]
    assert made(tmp_path, datetime(2025, 5, 31)) == [[0.6, 0.8]]
    with caplog.at_level(logging.WARNING):
        assert made(tmp_path, datetime(2024, 12, 31)) == []
    assert "knows more than 2024-12-31" in caplog.text


def test_an_older_fit_is_told_unless_an_earlier_moment_was_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log ends earlier than at the last fit once the last shopper is forgotten."""
    keep(tmp_path, {datetime(2025, 1, 1): 1.0, NOW: -1.0})
    end = datetime(2025, 5, 31)
    told = "the last fit ends at 2025-06-01 00:00:00, after the tables (2025-05-31 00:00:00), so an older one"
    with caplog.at_level(logging.WARNING):
        assert made(tmp_path, end, is_earlier=True) == made(tmp_path, end, is_earlier=False) == [[0.6, 0.8]]
    assert caplog.text.count(told) == 1
    assert find_stale_fit(tables(end), "prod", tmp_path, is_earlier=True) is None
    assert told in str(find_stale_fit(tables(end), "prod", tmp_path, is_earlier=False))
    assert find_stale_fit(tables(NOW), "prod", tmp_path, is_earlier=False) is None


@pytest.mark.parametrize(("as_of", "photos", "told"), [(None, 1, "the tables have no interactions"),
                                                       (NOW, 0, "no item has both a text and")])  # fmt: skip
def test_plan_and_doctor_say_why_tables_have_no_learned_vectors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, as_of: datetime | None, photos: int, told: str
) -> None:
    keep(tmp_path, {NOW: 1.0})
    with caplog.at_level(logging.WARNING):
        assert made(tmp_path, pd.Timestamp(as_of).to_pydatetime(), photos=photos) == []
    assert f"no learned vectors: {told}" in caplog.text
    assert told in str(find_stale_fit(tables(as_of, photos), "prod", tmp_path, is_earlier=False))


@pytest.mark.parametrize(("changed", "told"), [({"recipe": "caption_title"}, "text recipe is title, now caption_title"),
                                               ({"encoder": "text@2"}, "encoder is text@1, now text@2")])  # fmt: skip
def test_a_stale_fit_makes_no_vectors_and_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, str], told: str
) -> None:
    keep(tmp_path, {NOW: 1.0})
    with caplog.at_level(logging.WARNING):
        assert made(tmp_path, NOW, **changed) == []
    assert told in caplog.text
    assert "run `vlm4rec fit`" in caplog.text


def test_a_new_fit_replaces_the_files_of_the_one_before(tmp_path: Path) -> None:
    assert fitted_variable(tmp_path) == ""
    assert made(tmp_path, NOW) == []
    keep(tmp_path, {NOW: 1.0})
    before = fitted_variable(tmp_path)
    system = keep(tmp_path, {NOW: -1.0})
    assert before != fitted_variable(tmp_path) != ""
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([FILE, system.fits[0].file])
    assert read_fitted(tmp_path) == system


@pytest.mark.parametrize("damaged", [False, True])
def test_a_new_fit_removes_no_file_of_others(tmp_path: Path, damaged: bool) -> None:
    own = tmp_path / "model.safetensors"
    own.write_bytes(b"weights of an encoder")
    system = keep(tmp_path, {NOW: 1.0})
    if damaged:
        (tmp_path / FILE).write_text("half")
    keep(tmp_path, {NOW: -1.0})
    assert own.read_bytes() == b"weights of an encoder"
    assert (tmp_path / system.fits[0].file).exists() == damaged, "nothing says whose it is"


def test_damaged_numbers_are_an_error(tmp_path: Path) -> None:
    system = keep(tmp_path, {NOW: 1.0})
    (tmp_path / system.fits[0].file).write_bytes(b"damaged")
    with pytest.raises(RunError, match="are damaged: run `vlm4rec fit`"):
        made(tmp_path, NOW)


def test_missing_numbers_are_told_before_a_plan(tmp_path: Path) -> None:
    system = keep(tmp_path, {NOW: 1.0})
    (tmp_path / system.fits[0].file).unlink()
    with pytest.raises(UsageError, match=rf"{system.fits[0].file} is missing, .*: put it back, or run `vlm4rec fit`"):
        fitted_variable(tmp_path)


@pytest.mark.parametrize(("text", "told"), [('{"system": "other"}', "cannot read the fitted system"),
                                            ("", "cannot read the fitted system")])  # fmt: skip
def test_a_file_that_cannot_be_read_is_a_mistake_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError, match=told):
        fitted_variable(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_told_before_any_training(tmp_path: Path) -> None:
    keep(tmp_path, {NOW: 1.0})
    settings = ExplicitSettings(project=None, warehouse=tmp_path / "none.duckdb", fitted=tmp_path / FILE)
    with pytest.raises(UsageError, match="which is a file: name the folder"):
        fitted_variable(settings.fitted)
    with pytest.raises(UsageError, match="which is a file: name the folder"):
        fit_on_warehouse(settings, "attention", 1, print)


@pytest.mark.parametrize("system", ["attention", "gating"])
def test_what_was_fitted_on_shuffled_labels_finds_nothing(system: FittedName) -> None:
    """The guard of the retriever: its item vectors, made by numpy, and profiles as means of them."""
    draw = np.random.default_rng(11)
    log = planted(users=120)
    texts = np.hstack([log.vectors, draw.normal(0, 0.5, (160, 24))])
    log = replace(log, vectors=texts, others={"photo": draw.normal(size=(160, 20))})
    split = log.split(START + 70 * DAY)
    targets = log.targets(split)
    found = {}
    for name, seen in {"honest": split, "shuffled": shuffled(split)}.items():
        of_torch = Learned(system, "document", "photo", system)
        of_torch.fit(seen)
        vectors = seen.catalogue.vectors
        items = project(system, of_torch.numbers(), vectors["document"], vectors["photo"])
        scores = (unit(seen.weights @ items) @ items.T).astype(np.float32)
        ranking = rank(lambda users, scores=scores: scores[users], seen, targets.users, 50)  # type: ignore[misc]
        found[name] = float(accuracy(ranking, targets.relevant, ("R@10",)).mean())
    chance = 10 / 160
    assert found["honest"] > 1.5 * chance
    assert found["shuffled"] == pytest.approx(chance, abs=0.06)


def shuffled(split: Split) -> Split:
    items = np.random.default_rng(1).permutation(split.items)
    return replace(split, items=items, weights=incidence(split.users, items, split.shape))


def test_a_catalogue_without_photos_is_told_before_any_plan(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE SCHEMA embeddings")
        for table, column in (
            ("item_embeddings", "encoder"),
            ("image_embeddings", "encoder"),
            ("item_texts", "recipe"),
        ):
            connection.execute(f"CREATE TABLE embeddings.{table} AS SELECT 'a' AS item_id, 'x' AS {column}")
        connection.execute("DELETE FROM embeddings.image_embeddings")
    settings = ExplicitSettings(project=None, warehouse=warehouse, cache=tmp_path / "cache")
    steps: list[str] = []
    with pytest.raises(UsageError, match="no item has a photo with a vector"):
        fit_on_warehouse(settings, "attention", 1, steps.append)
    assert not steps
    assert not settings.cache.exists()
