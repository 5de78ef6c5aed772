"""The whole job of `vlm4rec captions train-demo`: draw, train, save, measure, write the card."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.captioning.captioners.tiny.accuracy import PHOTOS as TESTED
from vlm4rec_search.captioning.captioners.tiny.accuracy import accuracy, captions_of, held_out
from vlm4rec_search.captioning.captioners.tiny.card import CARD, write_card
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import bar

if TYPE_CHECKING:
    from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor


@dataclass(frozen=True)
class Training:
    """What was trained, for how long, and what came of it.

    Attributes:
        photos: drawings that it saw.
        seeing, writing: steps of the two parts of `training`.
        loss: mean of the last 100 steps of writing, nats per token.
        minutes: with the drawing, without the test.
        accuracy: share right of each attribute on held-out photos.
    """

    folder: str
    photos: int
    seeing: int
    writing: int
    parameters: int
    loss: float
    minutes: float
    accuracy: dict[str, float]


def make_model(to: Path, photos: int, seeing: int, writing: int, tested: int = TESTED) -> Training:
    """Train the small model from nothing and write it to the folder `to` with its card; seeded.

    Args:
        to: new or empty folder, or an earlier model of this kind, which is replaced.
        photos: drawings to train on.
        seeing: steps of the vision tower alone.
        writing: steps of the decoder on captions.
        tested: held-out drawings to measure on.

    Raises:
        UsageError: a number is too small, or `to` holds other files.
    """
    from vlm4rec_search.captioning.captioners.transformers.captioner import TransformersCaptioner
    from vlm4rec_search.captioning.prompts import load_prompt

    _check(to, min(photos, seeing, writing, tested))
    started = time.monotonic()
    parameters, loss = _train(to, photos, seeing, writing)
    minutes = (time.monotonic() - started) / 60
    pictures, looks = held_out(tested)
    captions = captions_of(TransformersCaptioner(str(to), load_prompt("describe"), batch_size=32), pictures)
    shares = accuracy(looks, captions)
    training = Training(str(to), photos, seeing, writing, parameters, loss, minutes, shares)
    write_card(to, training, tested, date.today())
    return training


def _check(to: Path, least: int) -> None:
    if least < 1:
        raise UsageError("training needs at least 1 photo, 1 step of each part and 1 photo to test on")
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; give a folder")
    if to.is_dir() and any(to.iterdir()) and not (to / CARD).is_file():
        raise UsageError(f"{to} holds other files (no {CARD}), which are left alone; give a new or an empty folder")


def _train(to: Path, photos: int, seeing: int, writing: int) -> tuple[int, float]:
    """Return the number of parameters and the loss."""
    import torch

    from vlm4rec_search.captioning.captioners.tiny.architecture import new_model, new_processor
    from vlm4rec_search.captioning.captioners.tiny.drawings import TRAINING, draw_tiles
    from vlm4rec_search.captioning.captioners.tiny.training import SEED, teach_seeing, teach_writing

    tiles, looks = draw_tiles(TRAINING, photos)
    torch.manual_seed(SEED)
    processor = new_processor()
    model = new_model(processor.tokenizer)
    _follow("training the vision tower", teach_seeing(model, tiles, looks, seeing), seeing)
    losses = _follow("training the decoder", teach_writing(model, processor, tiles, looks, writing), writing)
    _save(model, processor, to)
    return model.num_parameters(), sum(losses[-100:]) / len(losses[-100:])


def _follow(label: str, training: Iterator[float], steps: int) -> list[float]:
    losses = []
    with bar(label, steps) as advance:
        for loss in training:
            losses.append(loss)
            advance(1)
    return losses


def _save(model: "LlavaNextForConditionalGeneration", processor: "LlavaNextProcessor", to: Path) -> None:
    """Write half-precision weights, which take half the room, under a configuration that loads them as float32."""
    import torch

    to.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(to)  # type: ignore[arg-type]
    model.config.dtype = torch.float32
    model.config.save_pretrained(to)
    processor.save_pretrained(to)
    (to / "model.safetensors").chmod(0o644)
