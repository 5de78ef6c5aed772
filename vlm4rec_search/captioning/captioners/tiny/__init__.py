"""The captioner `tiny`: a small vision-language model (LLaVA-NeXT) for the drawings of the built-in shop."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from PIL.Image import Image

from vlm4rec_search.captioning.answers import caption_from
from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.captioners.tiny.model import TOKENIZER, VISION, WRITER, TinyModel
from vlm4rec_search.captioning.captioners.transformers.captioner import MODEL_HINT
from vlm4rec_search.captioning.prompts import load_prompt
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import file_sha256
from vlm4rec_search.common.settings import Settings

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the packaged model, for ONNX Runtime and for transformers; MODEL_CARD.md in it describes the model."""

_REVISION = 1  # raise this when the code changes what the same weights write


class TinyCaptioner(Captioner):
    """The packaged model. It was trained with one prompt and reads no titles. Decoding is greedy.

    It does not count as one that `understands` photos: it recognises the drawings that it was trained on, and nothing
    else. So its captions are embedded after the title.

    Raises:
        RunError: the weights are missing from the package.
    """

    understands = False
    batch_size = 32

    def __init__(self) -> None:
        self._prompt = load_prompt("describe")
        try:
            digests = [file_sha256(WEIGHTS / name) for name in (VISION, WRITER, TOKENIZER)]
        except OSError:
            raise RunError(
                f"the weights of the captioner tiny are missing from {WEIGHTS}: install the package again"
            ) from None
        revision = hashlib.sha256("\0".join(digests).encode()).hexdigest()
        self.id = f"tiny@{revision[:12]}-{_REVISION}"
        self.prompt, self.decoding = self._prompt.id, f"greedy {self._prompt.tokens}"

    def render(self, context: Context) -> str:
        return self._prompt.render(context)

    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        """Return a caption for each RGB photo; the prompts are not read."""
        return [caption_from(reply, self._prompt) for reply in self._model.answer(photos, self._prompt.tokens)]

    @cached_property
    def _model(self) -> TinyModel:
        return TinyModel(WEIGHTS)


def make_tiny(argument: str, settings: Settings) -> TinyCaptioner:
    """Return the packaged model, which ignores the settings.

    Raises:
        UsageError: an argument was given.
        RunError: the weights are missing from the package.
    """
    if argument:
        raise UsageError(f"the captioner tiny takes no argument, not {argument!r}: for another model, {MODEL_HINT}")
    return TinyCaptioner()
