"""Vectors of texts and photos through the cache, and the types that DuckDB sees."""

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vlm4rec_search.common.cache import FILE, Cache
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.embeddings.tables import embed_photos, embed_texts


def item_texts(*texts: str | None) -> pd.DataFrame:
    return pd.DataFrame({"item_id": [f"i{n}" for n in range(len(texts))], "text": list(texts)}, dtype=object)


def ledger_counts(cache: Path) -> list[tuple[str, int, int, int]]:
    with Cache(cache) as store:
        return [(row.kind, row.computed, row.cached, row.failed) for row in store.ledger()]


def test_vectors_are_in_the_order_of_the_texts(tmp_path: Path) -> None:
    texts = ["a long text about a red shoe", "lamp", None, "lamp"]
    frame = embed_texts(item_texts(*texts), "hashing-64", tmp_path)
    expected = load_sentence_encoder("hashing-64").encode([text or "" for text in texts])
    assert list(frame.columns) == ["item_id", "encoder", "text_hash", "vector"]
    assert list(frame["item_id"]) == ["i0", "i1", "i2", "i3"]
    assert np.stack(frame["vector"].tolist()) == pytest.approx(expected)
    assert frame["vector"][0].dtype == np.float32
    assert frame["text_hash"][1] == hashlib.sha256(b"lamp").hexdigest()
    assert set(frame["encoder"]) == {"hashing-64@1"}


def test_equal_texts_are_encoded_once_and_a_second_run_encodes_only_new_texts(tmp_path: Path) -> None:
    embed_texts(item_texts("lamp", "shoe", "lamp"), "hashing-64", tmp_path)
    embed_texts(item_texts("lamp", "shoe", "hat"), "hashing-64", tmp_path)
    embed_texts(item_texts("lamp"), "hashing-32", tmp_path)
    assert ledger_counts(tmp_path) == [("sentence", 2, 0, 0), ("sentence", 1, 2, 0), ("sentence", 1, 0, 0)]


def test_duckdb_sees_lists_of_floats(tmp_path: Path) -> None:
    expected = [("item_id", "VARCHAR"), ("encoder", "VARCHAR"), ("text_hash", "VARCHAR"), ("vector", "FLOAT[]")]
    frame = embed_texts(item_texts("lamp"), "hashing-64", tmp_path)
    assert len(frame) == 1
    described = duckdb.sql("DESCRIBE SELECT * FROM frame").fetchall()
    assert [(name, kind) for name, kind, *_ in described] == expected
    nothing = embed_texts(item_texts(), "hashing-64", tmp_path)
    assert (list(nothing.columns), len(nothing)) == ([name for name, _ in expected], 0)


def test_readable_photos_have_vectors_and_failures_are_counted(tmp_path: Path) -> None:
    Image.new("RGB", (10, 10), "red").save(tmp_path / "red.png")
    Image.new("RGB", (10, 10), "red").save(tmp_path / "copy.png")
    Image.new("RGB", (10, 10), "blue").save(tmp_path / "blue.png")
    (tmp_path / "bad.jpg").write_text("no photo")
    images = ["red.png", None, "bad.jpg", "blue.png", "copy.png", "absent.png", "https://x.example/a.png"]
    items = pd.DataFrame({"item_id": list("abcdefg"), "image": images})
    frame = embed_photos(items, "thumbnail-4", tmp_path, tmp_path / "cache")
    assert list(frame["item_id"]) == ["a", "d", "e"]
    assert frame["photo_hash"][0] == hashlib.sha256((tmp_path / "red.png").read_bytes()).hexdigest()
    assert frame["vector"][0] == pytest.approx(frame["vector"][2])
    assert frame["vector"][0] @ frame["vector"][1] < 0.9
    embed_photos(items, "thumbnail-4", tmp_path, tmp_path / "cache")
    assert ledger_counts(tmp_path / "cache") == [("image", 2, 0, 1), ("image", 0, 2, 1)]


def test_photo_vectors_can_be_switched_off(tmp_path: Path) -> None:
    items = pd.DataFrame({"item_id": ["a"], "image": ["a.png"]})
    assert embed_photos(items, "none", tmp_path, tmp_path / "cache").empty
    assert not (tmp_path / "cache").exists()


def test_a_query_has_the_same_vector_as_an_equal_text(tmp_path: Path) -> None:
    frame = embed_texts(item_texts("red shoe"), "hashing-64", tmp_path)
    assert load_sentence_encoder("hashing-64").encode(["red shoe"])[0] == pytest.approx(frame["vector"][0])


def test_damaged_vectors_are_refused(tmp_path: Path) -> None:
    embed_texts(item_texts("lamp"), "hashing-64", tmp_path)
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE results SET value = zeroblob(256)")
    with pytest.raises(RunError, match="not unit vectors of one dimension"):
        embed_texts(item_texts("lamp"), "hashing-64", tmp_path)


def test_cached_vectors_need_no_runtime(tmp_path: Path) -> None:
    """A plan without new texts reads the results under the id of the real encoder and loads no network."""
    code = f"""
import sys
import numpy as np, pandas as pd
from pathlib import Path
from vlm4rec_search.common.cache import RAW, Cache, result_key
from vlm4rec_search.embeddings.tables import embed_texts
import hashlib
cache = Path({str(tmp_path)!r})
encoder = "all-MiniLM-L6-v2@53aa51172d14-1"
key = result_key("sentence", encoder, hashlib.sha256(b"lamp").hexdigest())
unit = np.eye(1, 384, dtype="<f4")[0].tobytes()
with Cache(cache) as store:
    store.get_or_compute("sentence", encoder, {{key: "lamp"}}, lambda batch: [unit], RAW)
frame = embed_texts(pd.DataFrame({{"item_id": ["a"], "text": ["lamp"]}}), "all-MiniLM-L6-v2", cache)
assert frame["vector"][0][0] == 1.0
sys.exit(bool({"torch", "onnxruntime"} & sys.modules.keys()))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert [row[1:3] for row in ledger_counts(tmp_path)] == [(1, 0), (0, 1)]
