"""Training of the small model from random weights, in two stages like a large model; seeded, on one thread.

In the first stage the vision tower learns to distinguish the attributes, which a pretrained CLIP tower could do
already: a linear layer over the means of its patches classifies them, and is then dropped. In the second stage the
tower is frozen, and projector and decoder learn to write. Training both at once took several times as long.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from vlm4rec_search.captioning.captioners.tiny.sentences import describe, visible_attributes
from vlm4rec_search.datasets.demo_shop.looks import Look

if TYPE_CHECKING:
    from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor

BATCH, SEED = 32, 7
ADAM_RATE, MUON_RATE, WARM_UP, WEIGHT_DECAY = 1.2e-3, 0.02, 0.05, 0.05
FARTHEST = 4
"""The largest shift of a photo, in pixels of the first tile; the photos of a shop vary as much."""
_IGNORED = -100  # the label of tokens that do not count in the loss

Tiles = npt.NDArray[np.uint8]
"""Unscaled photos (n, TILES, 3, TILE, TILE)."""


def train_vision_tower(
    model: "LlavaNextForConditionalGeneration", tiles: Tiles, looks: list[Look], steps: int, batch: int = BATCH
) -> Iterator[float]:
    """Train the vision tower in place; yield the loss of each step (nats per attribute)."""
    tower = model.model.vision_tower
    targets, sizes = _encode_classes(looks)
    heads = nn.Linear(2 * tower.config.hidden_size, sum(sizes))
    optimizer = _Optimizer([tower, heads], steps)
    model.set_attn_implementation("eager")  # the fused one has a slow backward pass in bfloat16
    for rows, photos in _iterate_batches(tiles, steps, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = heads(_mean_patches(tower, photos)).float().split(sizes, dim=1)
        pairs = zip(scores, targets[rows].T, strict=True)
        losses = [nn.functional.cross_entropy(score, target) for score, target in pairs]
        yield optimizer.step(torch.stack(losses).mean())


def train_decoder(
    model: "LlavaNextForConditionalGeneration",
    processor: "LlavaNextProcessor",
    tiles: Tiles,
    looks: list[Look],
    steps: int,
    batch: int = BATCH,
) -> Iterator[float]:
    """Train projector and decoder in place; yield the loss of each step (nats per token)."""
    prompt, captions = _tokenize(processor, looks)
    parts = [model.model.multi_modal_projector, model.model.language_model, model.lm_head]
    optimizer = _Optimizer(parts, steps)
    model.model.vision_tower.requires_grad_(False)
    model.set_attn_implementation("eager")
    for rows, photos in _iterate_batches(tiles, steps, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = _compute_loss(model, photos, prompt, captions[rows])
        yield optimizer.step(loss)


def _mean_patches(tower: nn.Module, photos: torch.Tensor) -> torch.Tensor:
    """Return the mean patches (n, 2 * width) of the whole photo and of its four tiles, as the decoder sees them."""
    patches = tower(_scale(photos).flatten(0, 1), output_hidden_states=True).hidden_states[-1][:, 1:]
    tiles = patches.mean(dim=1).reshape(*photos.shape[:2], -1)
    return torch.cat([tiles[:, 0], tiles[:, 1:].mean(dim=1)], dim=1)


class _Optimizer:
    """Muon for the matrices inside the layers and AdamW for the other weights, both with a one-cycle rate."""

    def __init__(self, parts: list[nn.Module], steps: int) -> None:
        torch.set_num_threads(1)  # for a fixed order of sums; and on shared cores, threads mostly wait
        named = [pair for part in parts for pair in part.named_parameters()]
        inner = [weight for name, weight in named if "layers." in name and weight.ndim == 2]
        chosen = {id(weight) for weight in inner}
        self._weights = [weight for _, weight in named]
        others = [weight for weight in self._weights if id(weight) not in chosen]
        adam = torch.optim.AdamW(others, ADAM_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
        self._optimizers: list[torch.optim.Optimizer] = [
            adam,
            torch.optim.Muon(inner, MUON_RATE, weight_decay=WEIGHT_DECAY),
        ]
        self._schedules = [
            torch.optim.lr_scheduler.OneCycleLR(one, rate, steps, pct_start=WARM_UP, cycle_momentum=False)
            for one, rate in zip(self._optimizers, (ADAM_RATE, MUON_RATE), strict=True)
        ]

    def step(self, loss: torch.Tensor) -> float:
        """Take one step along the gradient of a loss and return the loss."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        for optimizer, schedule in zip(self._optimizers, self._schedules, strict=True):
            optimizer.step()
            schedule.step()
        return loss.item()


def _encode_classes(looks: list[Look]) -> tuple[torch.Tensor, list[int]]:
    """Return the attributes of the looks as class numbers (n, attributes), and the number of classes of each."""
    columns = zip(*(visible_attributes(look).values() for look in looks), strict=True)
    coded = [np.unique(column, return_inverse=True) for column in columns]
    return torch.from_numpy(np.stack([codes for _, codes in coded], axis=1)), [len(names) for names, _ in coded]


def _tokenize(processor: "LlavaNextProcessor", looks: list[Look]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens of the prompt (1, p), which is the same for every square photo, and of the captions (n, c).

    Captions are padded at the end.
    """
    message = {"role": "user", "content": [{"type": "image"}]}
    chat = processor.apply_chat_template([message])  # type: ignore[arg-type]  # its types do not cover photos
    prompt = processor(images=[Image.new("RGB", (256, 256))], text=[chat], return_tensors="pt")["input_ids"]
    end = processor.tokenizer.eos_token
    sentences = [describe(look) + end for look in looks]
    captions = processor.tokenizer(sentences, padding=True, padding_side="right", return_tensors="pt")["input_ids"]
    return prompt, captions


def _iterate_batches(tiles: Tiles, steps: int, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield row numbers and photos; every photo is used once before any is used again.

    Each batch is shifted by a few pixels, and about half of them are mirrored, like the shop's own photos. So a weave
    never lies on the grid of patches in the same way twice.
    """
    rng = np.random.default_rng(SEED)
    rounds = -(-steps * batch // len(tiles))
    order = np.concatenate([rng.permutation(len(tiles)) for _ in range(rounds)])
    for rows in order[: steps * batch].reshape(steps, batch):
        right, down = rng.integers(-FARTHEST, FARTHEST + 1, 2).tolist()
        photos = shift_photos(torch.from_numpy(tiles[rows]), right, down)
        yield torch.from_numpy(rows), mirror_photos(photos) if rng.integers(2) else photos


def shift_photos(tiles: torch.Tensor, right: int, down: int) -> torch.Tensor:
    """Shift photos (n, TILES, 3, TILE, TILE) by pixels of the first tile; pixels wrap around at the border."""
    side = tiles.shape[-1]
    whole = (
        tiles[:, 1:]
        .reshape(len(tiles), 2, 2, 3, side, side)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(len(tiles), 3, 2 * side, 2 * side)
    )
    whole = whole.roll((2 * down, 2 * right), (-2, -1))
    parts = whole.reshape(len(tiles), 3, 2, side, 2, side).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    return torch.cat([tiles[:, :1].roll((down, right), (-2, -1)), parts], dim=1)


def mirror_photos(tiles: torch.Tensor) -> torch.Tensor:
    """Mirror photos (n, TILES, 3, TILE, TILE): flip each tile, and swap the left tiles with the right ones."""
    return tiles[:, [0, 2, 1, 4, 3]].flip(-1)


def _scale(tiles: torch.Tensor) -> torch.Tensor:
    return tiles / 127.5 - 1  # like the image processor


def _compute_loss(
    model: "LlavaNextForConditionalGeneration", tiles: torch.Tensor, prompt: torch.Tensor, captions: torch.Tensor
) -> torch.Tensor:
    tokens = torch.cat([prompt.expand(len(captions), -1), captions], dim=1)
    labels = tokens.clone()
    labels[:, : prompt.shape[1]] = _IGNORED
    labels[tokens == model.generation_config.pad_token_id] = _IGNORED
    sizes = torch.tensor([[256, 256]] * len(captions))
    loss: torch.Tensor = model(
        input_ids=tokens, pixel_values=_scale(tiles), image_sizes=sizes, labels=labels, use_cache=False
    ).loss
    return loss
