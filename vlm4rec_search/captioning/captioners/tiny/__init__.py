"""A small vision-language model of our own: LLaVA-NeXT's architecture, trained on the built-in shop's drawn photos."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The packaged model, a folder like any other of transformers; its MODEL_CARD.md says what it is for."""
