"""The card that lies beside the weights."""

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlm4rec_search.captioning.captioners.tiny.train import Training

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
