"""The whole job of `vlm4rec captions train-demo`: draw, train, save, measure, write the card."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.captioners.tiny.drawings import HELD_OUT, draw_one
from vlm4rec_search.captioning.captioners.tiny.sentences import attributes, read_attributes
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.datasets.demo_shop.looks import Look

if TYPE_CHECKING:
    from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor


# How often a captioner says what a drawn photo shows.

PHOTOS = 1_000


def held_out(count: int) -> tuple[list[Image], list[Look]]:
    """Draw the first `count` photos that no training sees, 256 x 256 pixels, and what they show."""
    with bar("drawing photos to test on", count) as advance:
        drawn = []
        for number in range(count):
            drawn.append(draw_one(HELD_OUT, number))
            advance(1)
    return [photo for photo, _ in drawn], [look for _, look in drawn]


def captions_of(captioner: Captioner, photos: Sequence[Image]) -> list[str]:
    """Return the caption of each photo, told nothing else about it; "" where it has none."""
    prompt, size, captions = captioner.render(Context()), captioner.batch_size, []
    with bar(f"captions by {captioner.id}", len(photos)) as advance:
        for start in range(0, len(photos), size):
            batch = photos[start : start + size]
            captions += captioner.caption(batch, [prompt] * len(batch))
            advance(len(batch))
    return [caption.text if isinstance(caption, Caption) else "" for caption in captions]


def accuracy(looks: Sequence[Look], captions: Sequence[str]) -> dict[str, float]:
    """Return, for each attribute, the share of captions that name what the look shows.

    The second colour counts only where a pattern shows it; `all of them` is the share with every attribute right.
    """
    right: dict[str, list[bool]] = {}
    for look, caption in zip(looks, captions, strict=True):
        shown, said = attributes(look), read_attributes(caption)
        for name, value in shown.items():
            if value:
                right.setdefault(name, []).append(said[name] == value)
        right.setdefault("all of them", []).append(said == shown)
    return {name: sum(marks) / len(marks) for name, marks in right.items()}


# The card that lies beside the weights.

CARD = "MODEL_CARD.md"

_TEXT = """# Tiny captioner: a vision-language model for the built-in shop

It describes the photos that this project draws for its built-in shop, and takes the path that a large model takes: chat
template, image tiles, greedy generation. LLaVA-NeXT's architecture with {parameters:,} parameters: a CLIP vision tower
(128 x 128 pixels: a photo as a whole, and as four tiles), a projector, a Llama decoder with one token per word.

**Never use it for anybody else's photos.** It has seen drawings of this shop's fourteen products and nothing else:
shown a real photo, it names one of those products, in this shop's words, without a doubt. For other photos choose a
real model (`transformers:...`, `openai:...`), or the captioner `attributes`, which measures pixels and says so.

## Data

{photos:,} drawings by `vlm4rec_search/shop` with their true looks, every look drawn at random, in a series of seeds of
its own that no shop uses; the sentences are made from the looks by the templates of `sentences.py`. No photograph, no
person, no text from elsewhere. It reads no prompt: the chat template keeps the photos of a conversation and drops the
words, so that no title can reach it.

## Training

From random weights, {day}, in two parts: {seeing:,} steps of the vision tower alone, which names the attributes
through a linear layer that is dropped afterwards, and {writing:,} steps of projector and decoder on the captions, the
tower frozen. {batch} photos a step, Muon and AdamW, one CPU thread, matrix products in bfloat16. It took {minutes:.0f}
minutes with the drawing, on 2 busy cores; last loss {loss:.4f} nats per token. Seeded: the same command on the same
machine gives the same weights; another processor may round differently.

    vlm4rec captions train-demo --photos {photos} --seeing {seeing} --writing {writing} --to FOLDER

The weights are kept in half precision and load as float32.

## Accuracy

On {tested:,} drawings that training never saw (`python -m benchmarks.tiny_captioner` draws them again; same shop, other
seeds), the share of captions that say what the photo shows:

| attribute | right |
|---|---|
{table}

The second colour counts where a pattern shows it; "all of them" are captions with every attribute right.

## Licence

MIT, as the project; data and weights were made by it alone.
"""


def write_card(to: Path, training: "Training", tested: int, day: date) -> None:
    """Write the card of a model into its folder."""
    from vlm4rec_search.captioning.captioners.tiny.training import BATCH

    table = "\n".join(f"| {name} | {share:.3f} |" for name, share in training.accuracy.items())
    facts = {**asdict(training), "table": table, "batch": BATCH, "tested": tested, "day": day.isoformat()}
    (to / CARD).write_text(_TEXT.format(**facts), encoding="utf-8")


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


def make_model(to: Path, photos: int, seeing: int, writing: int, tested: int = PHOTOS) -> Training:
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
