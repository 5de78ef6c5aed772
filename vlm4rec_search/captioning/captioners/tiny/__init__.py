"""The captioner `tiny`: a small vision-language model (LLaVA-NeXT) for the drawings of the built-in shop."""

from pathlib import Path

from vlm4rec_search.captioning.captioners.transformers.captioner import MODEL_HINT, TransformersCaptioner
from vlm4rec_search.captioning.prompts import load_prompt
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the packaged model, in the format of transformers; MODEL_CARD.md in it describes the model."""


def make_tiny(argument: str, settings: Settings) -> TransformersCaptioner:
    """Return the packaged model. It ignores the settings: it was trained with one prompt and reads no titles.

    It does not count as one that `understands` photos: it recognises the drawings that it was trained on, and nothing
    else. So its captions are embedded after the title.

    Raises:
        UsageError: an argument was given.
        RunError: the weights are missing from the package.
    """
    if argument:
        raise UsageError(f"the captioner tiny takes no argument, not {argument!r}: for another model, {MODEL_HINT}")
    if not (WEIGHTS / "model.safetensors").is_file():
        raise RunError(f"the weights of the captioner tiny are missing from {WEIGHTS}: install the package again")
    captioner = TransformersCaptioner(str(WEIGHTS), load_prompt("describe"), batch_size=32, name="tiny")
    captioner.understands = False
    return captioner
