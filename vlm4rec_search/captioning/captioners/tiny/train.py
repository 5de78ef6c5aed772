"""The command `vlm4rec captions train-demo`: draw photos, train the small model, save it, test it, write its card."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.captioning.captioners.tiny.accuracy import (
    TEST_PHOTOS,
    caption_photos,
    draw_held_out,
    measure_accuracy,
)
from vlm4rec_search.captioning.captioners.tiny.architecture import new_model, new_processor
from vlm4rec_search.captioning.captioners.tiny.drawings import TRAINING, draw_tiles
from vlm4rec_search.captioning.captioners.transformers.captioner import TransformersCaptioner
from vlm4rec_search.captioning.prompts import load_prompt
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import bar

if TYPE_CHECKING:
    from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor

CARD = "MODEL_CARD.md"


@dataclass(frozen=True)
class TrainingReport:
    """The size, duration and result of a training.

    Attributes:
        folder: folder of the model.
        photos: drawings for training.
        seeing, writing: steps of the vision tower alone, and of projector and decoder.
        parameters: weights of the model.
        loss: mean of the last 100 steps of the decoder, in nats per token.
        minutes: duration including the drawings, without the test.
        accuracy: share of held-out photos with each attribute right.
    """

    folder: str
    photos: int
    seeing: int
    writing: int
    parameters: int
    loss: float
    minutes: float
    accuracy: dict[str, float]


def train_model(to: Path, photos: int, seeing: int, writing: int) -> TrainingReport:
    """Train the small model from random weights and write it with its card to the folder `to`; seeded.

    Args:
        to: a new or empty folder, or an earlier model of this kind, which is replaced.
        photos: number of drawings to train on.
        seeing: steps of the vision tower alone.
        writing: steps of projector and decoder on captions.

    Raises:
        UsageError: a number is too small, or `to` contains other files.
    """
    _check_arguments(to, min(photos, seeing, writing))
    started = time.monotonic()
    parameters, loss = _train(to, photos, seeing, writing)
    minutes = (time.monotonic() - started) / 60
    drawings, looks = draw_held_out(TEST_PHOTOS)
    captions = caption_photos(TransformersCaptioner(str(to), load_prompt("describe"), batch_size=32), drawings)
    accuracy = measure_accuracy(looks, captions)
    report = TrainingReport(str(to), photos, seeing, writing, parameters, loss, minutes, accuracy)
    _write_card(to, report, date.today())
    return report


def _check_arguments(to: Path, smallest_number: int) -> None:
    if smallest_number < 1:
        raise UsageError("training needs at least 1 photo and 1 step of each part")
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; give a folder")
    if to.is_dir() and any(to.iterdir()) and not (to / CARD).is_file():
        raise UsageError(f"{to} contains other files and no {CARD}; give a new or an empty folder")


def _train(to: Path, photos: int, seeing: int, writing: int) -> tuple[int, float]:
    """Train and save the model; return the number of parameters and the loss."""
    import torch

    from vlm4rec_search.captioning.captioners.tiny.training import SEED, train_decoder, train_vision_tower

    tiles, looks = draw_tiles(TRAINING, photos)
    torch.manual_seed(SEED)
    processor = new_processor()
    model = new_model(processor.tokenizer)
    _show_progress("training the vision tower", train_vision_tower(model, tiles, looks, seeing), seeing)
    losses = _show_progress("training the decoder", train_decoder(model, processor, tiles, looks, writing), writing)
    _save(model, processor, to)
    return model.num_parameters(), sum(losses[-100:]) / len(losses[-100:])


def _show_progress(label: str, training: Iterator[float], steps: int) -> list[float]:
    losses = []
    with bar(label, steps) as advance:
        for loss in training:
            losses.append(loss)
            advance(1)
    return losses


def _save(model: "LlavaNextForConditionalGeneration", processor: "LlavaNextProcessor", to: Path) -> None:
    """Write the weights in half precision, which halves their size, with a configuration that loads them as float32."""
    import torch

    to.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(to)  # type: ignore[arg-type]
    model.config.dtype = torch.float32
    model.config.save_pretrained(to)
    processor.save_pretrained(to)
    (to / "model.safetensors").chmod(0o644)


def _write_card(to: Path, report: TrainingReport, day: date) -> None:
    from vlm4rec_search.captioning.captioners.tiny.training import BATCH

    table = "\n".join(f"| {name} | {share:.3f} |" for name, share in report.accuracy.items())
    facts = {**asdict(report), "table": table, "batch": BATCH, "tested": TEST_PHOTOS, "day": day.isoformat()}
    (to / CARD).write_text(_CARD_TEXT.format(**facts), encoding="utf-8")


_CARD_TEXT = """# Tiny captioner: a vision-language model for the built-in shop

This model describes the photos that the project draws for its built-in shop. It runs through the same code as a large
model: chat template, image tiles, greedy generation. It has LLaVA-NeXT's architecture with {parameters:,}
parameters: a CLIP vision tower (128 x 128 pixels, for the whole photo and for each of four tiles), a projector, and a
Llama decoder with one token per word.

**Never use it for anybody else's photos.** It was trained on drawings of this shop's fourteen products only. For a real
photo, it confidently names one of those products. For other photos choose a real model (`transformers:...`,
`openai:...`), or the captioner `attributes`, which only measures pixels.

## Data

{photos:,} drawings by `vlm4rec_search/datasets/demo_shop`, each with a random look, from seeds that no shop uses. The
templates in `sentences.py` turn the looks into captions. The data contains no photographs, no people and no other
texts. The model reads no prompt: the chat template keeps the photos of a conversation and drops its text, so no title
reaches the model.

## Training

From random weights on {day}, in two stages: {seeing:,} steps of the vision tower alone, which classifies the
attributes through a linear layer that is dropped afterwards, and {writing:,} steps of projector and decoder on the
captions with the tower frozen. Each step uses {batch} photos, Muon and AdamW, one CPU thread, and matrix products in
bfloat16. The training and its drawings took {minutes:.0f} minutes on 2 busy cores; the last loss was
{loss:.4f} nats per token. The training is seeded: the same command on the same machine gives the same weights, but
another processor may round differently.

    vlm4rec captions train-demo --photos {photos} --seeing {seeing} --writing {writing} --to FOLDER

The weights are stored in half precision and load as float32.

## Accuracy

The share of captions that name the attribute correctly, on {tested:,} held-out drawings of the same shop with other
seeds (`python -m benchmarks.tiny_captioner` draws them again):

| attribute | right |
|---|---|
{table}

The second colour counts only where a pattern shows it; "all of them" means every attribute right.

## Licence

MIT, like the project, which made the data and the weights itself.
"""
