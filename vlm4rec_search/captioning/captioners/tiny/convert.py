"""Convert the packaged safetensors of the small model to the two ONNX graphs that `model.py` runs.

After a training, `python -m vlm4rec_search.captioning.captioners.tiny.convert` writes them into the package. It needs
the extra `models` and two packages that no extra names: `pip install onnx onnxscript`. The weights stay in half
precision in the files and are converted to float32 when they are loaded, as transformers does. The module imports
torch: import it late.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers import LlavaNextForConditionalGeneration
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from vlm4rec_search.captioning.captioners.tiny import WEIGHTS
from vlm4rec_search.captioning.captioners.tiny.architecture import (
    HEADS,
    PATCH,
    TEXT_LAYERS,
    TILE,
    TILES,
    WIDTH,
    new_processor,
)
from vlm4rec_search.captioning.captioners.tiny.model import VISION, WRITER
from vlm4rec_search.embeddings.convert import export_onnx

_SIDE = TILE // PATCH  # patches
_HEAD = WIDTH // HEADS
_THETA = 10_000.0  # of the rotary positions


class Vision(nn.Module):
    """The vision tower and the projector."""

    def __init__(self, model: LlavaNextForConditionalGeneration) -> None:
        super().__init__()
        self.model = model.model
        self.start = new_processor().tokenizer.bos_token_id

    def forward(self, tiles: Tensor) -> Tensor:
        """Map tiles (n, TILES, 3, TILE, TILE) to the prompt of the decoder (n, 89, WIDTH).

        The prompt has the 16 patches of the whole photo, the 8 x 8 patches of its tiles with a new-line token after
        each row, and the start token.
        """
        count = tiles.shape[0]
        states = self.model.vision_tower(tiles.flatten(0, 1), output_hidden_states=True).hidden_states[-1]
        patches = self.model.multi_modal_projector(states[:, 1:]).view(count, TILES, _SIDE * _SIDE, WIDTH)
        rows = patches[:, 1:].view(count, 2, 2, _SIDE, _SIDE, WIDTH).transpose(2, 3)
        grid = rows.reshape(count, 2 * _SIDE, 2 * _SIDE, WIDTH)
        line = self.model.image_newline.expand(count, 2 * _SIDE, 1, WIDTH)
        start = self.model.language_model.embed_tokens.weight[self.start].expand(count, 1, WIDTH)
        return torch.cat([patches[:, 0], torch.cat([grid, line], dim=2).flatten(1, 2), start], dim=1)


class Writer(nn.Module):
    """One greedy step of the Llama decoder, with the keys and values of the tokens before it."""

    def __init__(self, model: LlavaNextForConditionalGeneration) -> None:
        super().__init__()
        self.decoder, self.head = model.model.language_model, model.lm_head

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next token.

        Args:
            x: embeddings of t new tokens (n, t, WIDTH).
            past: keys and values of p tokens before them (TEXT_LAYERS, 2, n, HEADS, p, WIDTH / HEADS).

        Returns:
            The next token (n,), its embedding (n, 1, WIDTH), and keys and values of the p + t tokens.
        """
        before = past.shape[4]
        positions = torch.arange(before + x.shape[1])
        visible = positions[None, :] <= positions[before:, None]
        turns = positions[:, None] * _THETA ** -(torch.arange(0, _HEAD, 2) / _HEAD)
        angles = torch.cat([turns, turns], dim=1)[before:]
        present = []
        for layer in range(TEXT_LAYERS):
            x, kept = _run_layer(self.decoder.layers[layer], x, past[layer], angles, visible)
            present.append(kept)
        token = self.head(self.decoder.norm(x[:, -1])).argmax(dim=-1)
        return token, self.decoder.embed_tokens(token)[:, None], torch.stack(present)


def _run_layer(
    layer: LlamaDecoderLayer, x: Tensor, past: Tensor, angles: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the output of a layer, and its keys and values (2, n, HEADS, p + t, WIDTH / HEADS)."""
    attention, inputs = layer.self_attn, layer.input_layernorm(x)
    query, key, value = (
        projection(inputs).unflatten(-1, (HEADS, _HEAD)).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    kept = torch.cat([past, torch.stack([_rotate(key, angles), value])], dim=3)
    scores = _rotate(query, angles) @ kept[0].transpose(2, 3) * _HEAD**-0.5
    attended = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1) @ kept[1]
    x = x + attention.o_proj(attended.transpose(1, 2).flatten(2))
    return x + layer.mlp(layer.post_attention_layernorm(x)), kept


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()


def convert(folder: Path = WEIGHTS) -> None:
    """Write the ONNX files beside the safetensors of a folder."""
    model = LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    photos, new, past = Dim("photos"), Dim("new"), Dim("past")
    tiles, prompt = torch.zeros(2, TILES, 3, TILE, TILE), torch.zeros(2, 3, WIDTH)
    export_onnx(Vision(model), {"tiles": (tiles, {0: photos})}, ["prompt"], folder / VISION, half=True)
    before = torch.zeros(TEXT_LAYERS, 2, 2, HEADS, 4, _HEAD)
    inputs = {"x": (prompt, {0: photos, 1: new}), "past": (before, {2: photos, 4: past})}
    export_onnx(Writer(model), inputs, ["token", "next", "present"], folder / WRITER, half=True)


if __name__ == "__main__":
    convert()
