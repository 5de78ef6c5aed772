"""`vlm4rec captions train-demo`: the demo's own vision-language model, trained from nothing."""

from pathlib import Path

import click

from vlm4rec_search.cli.output import echo_json, json_option


@click.command("train-demo")
@click.option("--to", type=click.Path(path_type=Path), default=Path("tiny-captioner"), show_default=True,
              help="Folder to write; an earlier model in it is replaced.")  # fmt: skip
@click.option("--photos", type=int, default=20_000, show_default=True, help="Drawings to train on.")
@click.option("--seeing", type=int, default=7_000, show_default=True, help="Steps of the vision tower alone.")
@click.option("--writing", type=int, default=1_600, show_default=True, help="Steps of the decoder on captions.")
@json_option
def train_demo(to: Path, photos: int, seeing: int, writing: int, as_json: bool) -> None:
    """Train the small vision-language model of the built-in shop from random weights, on this machine's CPU.

    The captioner `tiny` comes with such a model. Training takes three quarters of an hour on two cores and 6 GB of
    memory, then 1,000 drawings that it has not seen are captioned and MODEL_CARD.md is written. Use the result with
    VLM4REC_CAPTIONER=transformers:tiny-captioner.

    \b
    Example:
      vlm4rec captions train-demo --to tiny-captioner
    """
    from dataclasses import asdict

    from vlm4rec_search.captioning.captioners.tiny.train import make_model

    training = make_model(to, photos, seeing, writing)
    if as_json:
        echo_json(asdict(training))
        return
    click.echo(f"{to}: {training.parameters:,} parameters, {training.minutes:.0f} minutes, loss {training.loss:.4f}")
    for name, share in training.accuracy.items():
        click.echo(f"  {name:<14} {share:.3f}")
