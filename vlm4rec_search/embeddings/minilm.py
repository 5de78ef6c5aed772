"""The forward pass of all-MiniLM-L6-v2: BERT with 6 layers (Devlin et al. 2019) and mean pooling of the tokens.

The pass is written out because importing torch and tokenizers takes a quarter of the time of importing
sentence-transformers, which delays the first query and every plan. A test compares the vectors of both. The module
imports torch: import it late.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

LONGEST = 256  # tokens, as in the model's own sentence_bert_config.json
_LAYERS, _HEADS, _EPS = 6, 12, 1e-12
_BATCH = 64

logger = logging.getLogger(__name__)


class MiniLM:
    """The model with the weights and the tokenizer of a folder."""

    def __init__(self, folder: Path) -> None:
        self._weights = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.enable_padding()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the mean token vector of each text, float32 (n, 384); log how many texts are truncated."""
        order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
        rows, truncated = torch.empty(len(texts), 384), 0
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            encodings = self._tokenizer.encode_batch([texts[position] for position in batch])
            truncated += sum(bool(encoding.overflowing) for encoding in encodings)
            tokens = torch.tensor([encoding.ids for encoding in encodings])
            rows[batch] = self._forward(tokens, torch.tensor([encoding.attention_mask for encoding in encodings]))
        if truncated:
            logger.warning(
                "%d of %d texts are longer than %d tokens: their ends are not encoded", truncated, len(texts), LONGEST
            )
        return rows

    def _forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Map token ids and attention mask (n, t) to mean token vectors (n, 384)."""
        weights = self._weights
        x = weights["embeddings.word_embeddings.weight"][tokens]
        x = x + weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        x = self._norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            x = self._layer(x, mask[:, None, None, :].bool(), f"encoder.layer.{layer}")
        shares = mask / mask.sum(dim=1, keepdim=True)
        return (x * shares[:, :, None]).sum(dim=1)

    def _layer(self, x: Tensor, visible: Tensor, name: str) -> Tensor:
        size, length, width = x.shape
        query, key, value = (
            self._linear(x, f"{name}.attention.self.{projection}").view(size, length, _HEADS, -1).transpose(1, 2)
            for projection in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended = self._linear(attended.transpose(1, 2).reshape(size, length, width), f"{name}.attention.output.dense")
        x = self._norm(x + attended, f"{name}.attention.output.LayerNorm")
        hidden = functional.gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._norm(x + self._linear(hidden, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, (x.shape[-1],), weight, bias, _EPS)
