"""Captions by a vision-language model on this machine. Torch is imported with the first photo."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from vlm4rec_search.captioning.answers import caption_from
from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
from vlm4rec_search.captioning.prompts import Prompt, load_prompt
from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError, first_line, missing_extra
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.embeddings.weights import folder_digest, hub_commit

if TYPE_CHECKING:
    from vlm4rec_search.captioning.captioners.transformers.model import Quantization, VisionLanguageModel

_REVISION = 1  # raise this when the code changes what the same weights write
MODEL_HINT = "VLM4REC_CAPTIONER=transformers:<folder or hub name>"


class TransformersCaptioner(Captioner):
    """An image-text-to-text model of transformers, in a folder or at one commit on the Hugging Face hub.

    Decoding is greedy. The same weights may still give other words on another device, in half precision, or in another
    batch; the cache ignores these differences. Quantised weights count as another captioner.

    Args:
        source: a folder, or a name on the hub.
        prompt: the prompt for all photos.
        batch_size: the largest number of photos in one batch.
        quantization: precision of the weights on a GPU.

    Raises:
        UsageError: the model or its commit cannot be found.
    """

    def __init__(self, source: str, prompt: Prompt, batch_size: int = 8, quantization: "Quantization" = "none") -> None:
        folder = Path(source).expanduser()
        self._prompt, self._quantization = prompt, quantization
        self._commit = None if folder.is_dir() else _find_commit(source)
        self._source = source if self._commit else str(folder)
        revision = self._commit or folder_digest(folder)
        self.id = f"{source if self._commit else folder.resolve().name}@{revision[:12]}-{_REVISION}"
        self.prompt = prompt.id
        self.decoding = f"greedy {prompt.tokens}" + ("" if quantization == "none" else f" {quantization}")
        self.batch_size = self._fitting_batch = batch_size

    def render(self, context: Context) -> str:
        return self._prompt.render(context)

    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        """Return a caption or an error for each RGB photo. Photos of similar size share a batch, to save padding.

        A batch that fails, for lack of memory or otherwise, is halved until the single failing photo is isolated.

        Raises:
            UsageError, RunError: the model cannot be loaded, or the device has failed.
        """
        order = sorted(range(len(photos)), key=lambda position: photos[position].size)
        outcomes: dict[int, Caption | Exception] = {}
        while order:
            batch, order = order[: self._fitting_batch], order[self._fitting_batch :]
            results = self._caption_batch(
                [photos[position] for position in batch], [prompts[position] for position in batch]
            )
            outcomes |= dict(zip(batch, results, strict=True))
        return [outcomes[position] for position in range(len(photos))]

    def _caption_batch(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        try:
            replies = self._model.answer(photos, prompts, self._prompt.tokens)
            return [caption_from(reply, self._prompt) for reply in replies]
        except Vlm4recError:
            raise
        except Exception as error:
            if str(error).startswith("CUDA error"):  # nothing on the device works after one
                raise RunError(f"{self.id}: {first_line(error)}: earlier captions are kept; run again") from None
            if len(photos) == 1:
                return [self._describe_failure(error)]
            self._shrink_batches(error, len(photos) // 2)
        half = len(photos) // 2  # outside of the handler, whose traceback would keep the tensors of the batch in memory
        return self._caption_batch(photos[:half], prompts[:half]) + self._caption_batch(photos[half:], prompts[half:])

    def _shrink_batches(self, error: Exception, half: int) -> None:
        """Use smaller batches from now on if the batch ran out of memory."""
        from vlm4rec_search.captioning.captioners.transformers.model import out_of_memory

        if out_of_memory(error):
            self._fitting_batch = min(self._fitting_batch, half)

    def _describe_failure(self, error: Exception) -> CaptionError:
        from vlm4rec_search.captioning.captioners.transformers.model import out_of_memory

        if out_of_memory(error):
            return CaptionError("failed", f"a single photo does not fit into memory ({first_line(error)})")
        return CaptionError("failed", f"{type(error).__name__}: {first_line(error)}")

    @cached_property
    def _model(self) -> "VisionLanguageModel":
        try:
            return self._load()
        except Vlm4recError:
            raise
        except Exception as error:  # the next photo would have the same
            raise RunError(f"the captioner {self.id} cannot be loaded: {first_line(error)}") from None

    def _load(self) -> "VisionLanguageModel":
        try:
            from vlm4rec_search.captioning.captioners.transformers.model import VisionLanguageModel
        except ImportError as error:
            raise missing_extra(error, "models") from None
        return VisionLanguageModel(self._source, self._commit, self._quantization)


def make(argument: str, settings: Settings) -> TransformersCaptioner:
    """Return the captioner for a folder or a hub name.

    Raises:
        UsageError: the argument is missing, or the model or the prompt is unknown.
    """
    if not argument:
        raise UsageError(f"the captioner transformers needs a model: {MODEL_HINT}")
    prompt = load_prompt(settings.prompt)
    return TransformersCaptioner(argument, prompt, settings.captioner_batch, settings.captioner_quantize)


def _find_commit(name: str) -> str:
    try:
        return hub_commit(name)
    except LookupError as error:
        raise UsageError(f"captioner {name!r} {error}: {MODEL_HINT}") from None
