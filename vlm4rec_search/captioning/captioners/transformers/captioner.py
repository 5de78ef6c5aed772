"""Captions by a vision-language model on this machine; torch comes with the first photo."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from vlm4rec_search.captioning.answers import caption_from
from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
from vlm4rec_search.captioning.prompts import Prompt, load_prompt
from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.embeddings.weights import first_line, folder_digest, hub_commit, missing_torch

if TYPE_CHECKING:
    from vlm4rec_search.captioning.captioners.transformers.model import Quantization, VisionLanguageModel

_REVISION = 1  # raise it when the same weights would write something else
_HINT = "VLM4REC_CAPTIONER=transformers:<folder or hub name>"


class TransformersCaptioner(Captioner):
    """Any image-text-to-text model of transformers in a folder, or on the Hugging Face hub at one commit.

    Answers are greedy. The same weights may word an answer otherwise on another device, in half precision or beside
    others in a batch; the cache takes those for the same, quantised weights for another captioner.

    Raises:
        UsageError: the model, or its commit, is not known.
    """

    def __init__(
        self, source: str, prompt: Prompt, batch_size: int = 8, quantization: "Quantization" = "none", name: str = ""
    ) -> None:
        folder = Path(source).expanduser()
        self._prompt, self._quantization = prompt, quantization
        self._commit = None if folder.is_dir() else _commit(source)
        self._source = source if self._commit else str(folder)
        revision = self._commit or folder_digest(folder)
        self.id = f"{name or (source if self._commit else folder.resolve().name)}@{revision[:12]}-{_REVISION}"
        self.prompt = prompt.id
        self.decoding = f"greedy {prompt.tokens}" + ("" if quantization == "none" else f" {quantization}")
        self.batch_size = self._fitting = batch_size

    def render(self, context: Context) -> str:
        """Return the prompt with title and category as quoted data."""
        return self._prompt.render(context)

    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        """Return a caption or a failure for each RGB photo; photos of like size share a batch, to be padded little.

        A batch that does not fit into memory, or fails otherwise, is halved down to the one photo that cannot be done.

        Raises:
            UsageError, RunError: the model cannot be loaded, or the device has failed.
        """
        order = sorted(range(len(photos)), key=lambda position: photos[position].size)
        outcomes: dict[int, Caption | Exception] = {}
        while order:
            batch, order = order[: self._fitting], order[self._fitting :]
            results = self._captions(
                [photos[position] for position in batch], [prompts[position] for position in batch]
            )
            outcomes |= dict(zip(batch, results, strict=True))
        return [outcomes[position] for position in range(len(photos))]

    def _captions(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        try:
            replies = self._model.answer(photos, prompts, self._prompt.tokens)
            return [caption_from(reply, self._prompt) for reply in replies]
        except Vlm4recError:
            raise
        except Exception as error:
            if str(error).startswith("CUDA error"):  # nothing on the device works after one
                raise RunError(f"{self.id}: {first_line(error)}: what was done so far is kept; run again") from None
            if len(photos) == 1:
                return [self._failure(error)]
            self._shrink(error, len(photos) // 2)
        half = len(photos) // 2  # out of the handler: its traceback would keep the tensors of the batch in memory
        return self._captions(photos[:half], prompts[:half]) + self._captions(photos[half:], prompts[half:])

    def _shrink(self, error: Exception, half: int) -> None:
        """Keep to smaller batches from now on where memory was the reason."""
        from vlm4rec_search.captioning.captioners.transformers.model import out_of_memory

        if out_of_memory(error):
            self._fitting = min(self._fitting, half)

    def _failure(self, error: Exception) -> CaptionError:
        from vlm4rec_search.captioning.captioners.transformers.model import out_of_memory

        if out_of_memory(error):
            return CaptionError("failed", f"one photo alone does not fit into memory ({first_line(error)})")
        return CaptionError("failed", f"{type(error).__name__}: {first_line(error)}")

    @cached_property
    def _model(self) -> "VisionLanguageModel":
        try:
            from vlm4rec_search.captioning.captioners.transformers.model import VisionLanguageModel
        except ImportError as error:
            raise missing_torch(error) from None
        try:
            return VisionLanguageModel(self._source, self._commit, self._quantization)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise RunError(f"the captioner {self.id} cannot be loaded: {first_line(error)}") from None


def make(argument: str, options: Settings) -> TransformersCaptioner:
    """Return the captioner of a folder or a hub name.

    Raises:
        UsageError: neither is given, or it is not known, or the prompt is not.
    """
    if not argument:
        raise UsageError(f"the captioner transformers needs a model: {_HINT}")
    prompt = load_prompt(options.prompt)
    return TransformersCaptioner(argument, prompt, options.captioner_batch, options.captioner_quantize)


def make_tiny(argument: str, options: Settings) -> TransformersCaptioner:
    """Return the packaged small model; it was trained on one prompt and knows no titles.

    Raises:
        UsageError: an argument was given.
        RunError: the package lacks its weights.
    """
    from vlm4rec_search.captioning.captioners.tiny import WEIGHTS

    if argument:
        raise UsageError(f"the captioner tiny takes no argument, not {argument!r}: for another model, {_HINT}")
    if not (WEIGHTS / "model.safetensors").is_file():
        raise RunError(f"the weights of the captioner tiny are not in {WEIGHTS}: install the package again")
    return TransformersCaptioner(str(WEIGHTS), load_prompt("describe"), batch_size=32, name="tiny")


def _commit(name: str) -> str:
    try:
        return hub_commit(name)
    except LookupError as error:
        raise UsageError(f"captioner {name!r} {error}: {_HINT}") from None
