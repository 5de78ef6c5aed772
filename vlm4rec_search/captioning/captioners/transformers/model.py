"""One vision-language model of transformers on this machine: loading, chat template, greedy generation.

This module imports torch and transformers, so import it late.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from vlm4rec_search.captioning.answers import Reply
from vlm4rec_search.common.errors import UsageError

logger = logging.getLogger(__name__)

_SMALL = 20_000_000  # parameters
Quantization = Literal["none", "4bit", "8bit"]


class VisionLanguageModel:
    """The processor and weights of a folder, or of a hub name at one commit.

    Only safetensors are loaded, and no code that comes with the model is run. The weights are in half precision or
    quantised on CUDA (4 bits: nf4, as in the paper), and in float32 on a CPU.

    Raises:
        UsageError: quantised weights are requested and this machine cannot run them.
        Exception: the model cannot be loaded; the errors of torch, safetensors and transformers have no common class.
    """

    def __init__(self, source: str, revision: str | None, quantization: Quantization) -> None:
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it disturbs `sqlmesh plan`
        # Typed as Any because the processors' interfaces differ. Pillow resizes the photos: with torchvision installed,
        # the default backend would change captions.
        self._processor: Any = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            source, revision=revision, trust_remote_code=False, backend="pil"
        )
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"  # otherwise the answers to shorter prompts would follow padding
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model: PreTrainedModel = AutoModelForImageTextToText.from_pretrained(
            source, revision=revision, trust_remote_code=False, use_safetensors=True, **_choose_placement(quantization)
        )
        settings = self._model.generation_config
        if settings is not None and settings.pad_token_id is None:
            settings.pad_token_id = self._tokenizer.pad_token_id
        self.chats = bool(self._processor.chat_template or self._tokenizer.chat_template)
        """Whether the model takes a prompt. A model without a chat template (BLIP, GIT) gets the photo only."""
        if not self.chats:
            logger.warning("%s has no chat template: it gets the photos without prompt and titles", source)

    @torch.inference_mode()
    def answer(self, photos: Sequence[Image], prompts: Sequence[str], tokens: int) -> list[Reply]:
        """Return the reply to each RGB photo and its prompt, of at most `tokens` new tokens, generated as one batch."""
        start = time.monotonic()
        inputs = self._prepare_inputs(photos, prompts).to(self._model.device, dtype=self._model.dtype)
        with _limit_threads(self._model):
            answers: Tensor = self._model.generate(  # type: ignore[operator]
                **inputs, max_new_tokens=tokens, do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None
            )
        new = _remove_prompt(answers, inputs.get("input_ids"))
        sent = inputs["attention_mask"].sum(dim=1).tolist() if "attention_mask" in inputs else [0] * len(photos)
        texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        share = (time.monotonic() - start) / len(photos)
        return [
            Reply(text, count, length, share, cut_off=not ended)
            for text, count, (length, ended) in zip(texts, sent, self._measure_lengths(new), strict=True)
        ]

    def _prepare_inputs(self, photos: Sequence[Image], prompts: Sequence[str]) -> Any:
        if not self.chats:
            return self._processor(images=list(photos), return_tensors="pt")
        chats = [
            [{"role": "user", "content": [{"type": "image", "image": photo}, {"type": "text", "text": prompt}]}]
            for photo, prompt in zip(photos, prompts, strict=True)
        ]
        return self._processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )

    def _measure_lengths(self, new: Tensor) -> list[tuple[int, bool]]:
        """Return the number of tokens of each answer (n, t), including its end token, and whether it has one."""
        ends = self._model.generation_config.eos_token_id
        known = torch.tensor(ends if isinstance(ends, list) else [] if ends is None else [ends], device=new.device)
        rows = torch.isin(new, known)
        return [(int(row.int().argmax()) + 1 if row.any() else new.shape[1], bool(row.any())) for row in rows]


@contextmanager
def _limit_threads(model: PreTrainedModel) -> Iterator[None]:
    """Run a small model in one thread: several threads mostly wait for each other (3 photos/s instead of 90)."""
    threads = torch.get_num_threads()
    if model.num_parameters() < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _remove_prompt(answers: Tensor, prompt: Tensor | None) -> Tensor:
    """Return the tokens after the prompt. Encoder-decoders and some other models do not repeat the prompt."""
    if prompt is None or not torch.equal(answers[:, : prompt.shape[1]], prompt):
        return answers
    return answers[:, prompt.shape[1] :]


def _choose_placement(quantization: Quantization) -> dict[str, object]:
    """Return the arguments for device and precision of the weights."""
    if not torch.cuda.is_available():
        if quantization != "none":
            raise UsageError(f"weights in {quantization} need a CUDA device: unset VLM4REC_CAPTIONER_QUANTIZE")
        return {"dtype": torch.float32}
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    missing = [name for name in ("accelerate", "bitsandbytes") if find_spec(name) is None]
    if quantization == "none":
        return {"dtype": half, "device_map": {"": 0}}
    if missing:
        raise UsageError(f"weights in {quantization} need {' and '.join(missing)}: pip install {' '.join(missing)}")
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": half}
    config = BitsAndBytesConfig(**(four if quantization == "4bit" else {"load_in_8bit": True}))  # type: ignore[no-untyped-call]
    return {"dtype": half, "device_map": {"": 0}, "quantization_config": config}


def out_of_memory(error: Exception) -> bool:
    """Return whether the error means that a batch was too large for the memory of the GPU or the machine."""
    cpu_message = "can't allocate memory" in str(error) or "not enough memory" in str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, RuntimeError) and cpu_message)
