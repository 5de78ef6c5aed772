"""Any model of sentence-transformers as sentence encoder. Torch is imported when the first text is encoded."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError, first_line, missing_extra
from vlm4rec_search.common.vectors import Vectors, unit_rows
from vlm4rec_search.embeddings.base import SentenceEncoder
from vlm4rec_search.embeddings.minilm import MINILM
from vlm4rec_search.embeddings.weights import folder_digest, hub_commit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SentenceTransformerEncoder(SentenceEncoder):
    """A model of sentence-transformers, in a folder or on the Hugging Face hub at a fixed commit.

    Raises:
        UsageError: the model, or its commit, cannot be found.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.revision: str | None = None
        if Path(name).is_dir():
            self.id = f"{Path(name).resolve().name}@{folder_digest(Path(name))[:12]}"
        else:
            self.revision = _find_commit(name)
            self.id = f"{name}@{self.revision[:12]}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows, float32 (n, d); a text longer than the model's input is truncated.

        Raises:
            UsageError, RunError: the model cannot be loaded.
        """
        model = self._model
        if not texts:
            return np.zeros((0, model.get_sentence_embedding_dimension() or 0), dtype=np.float32)
        return unit_rows(model.encode(list(texts), batch_size=64, convert_to_numpy=True, show_progress_bar=False))

    @cached_property
    def _model(self) -> "SentenceTransformer":
        try:
            return self._load()
        except Vlm4recError:
            raise
        except Exception as error:  # errors of torch, safetensors and transformers have no common class
            raise RunError(f"sentence encoder {self.name} cannot be loaded: {first_line(error)}") from None

    def _load(self) -> "SentenceTransformer":
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as error:
            raise missing_extra(error, "models") from None
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # bars break the display of `sqlmesh plan`
        return SentenceTransformer(
            self.name, revision=self.revision, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )


def _find_commit(name: str) -> str:
    """Return the commit of a model in the local hub cache, else the newest one on the hub."""
    try:
        return hub_commit(name if "/" in name else f"sentence-transformers/{name}")
    except LookupError as error:
        raise UsageError(
            f"sentence encoder {name!r} {error}: VLM4REC_ENCODER can be {MINILM}, hashing-256, a folder or a hub name"
        ) from None
