"""One vision-language model of transformers on this machine: loading, chat template, greedy generation.

Imports torch and transformers: import this module late.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging

from vlm4rec_search.captioning.answers import Reply
from vlm4rec_search.common.errors import UsageError

_SMALL = 20_000_000  # parameters
Quantization = Literal["none", "4bit", "8bit"]


class VisionLanguageModel:
    """Processor and weights of a folder, or of a hub name at one commit; safetensors only, no code of the model's own.

    On CUDA in half precision, or quantised (4 bits: nf4, as in the paper); on a CPU in float32.

    Raises:
        UsageError: quantised weights are asked for and the machine cannot hold them.
        OSError, ValueError, KeyError: it cannot be loaded.
    """

    def __init__(self, source: str, revision: str | None, quantization: Quantization) -> None:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it would draw over the display of `sqlmesh plan`
        # Without a type, since processors differ in what they take and give. Pillow resizes, or captions would change
        # with torchvision installed.
        self._processor: Any = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            source, revision=revision, trust_remote_code=False, backend="pil"
        )
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"  # or the answers of shorter prompts would begin after padding
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model: PreTrainedModel = AutoModelForImageTextToText.from_pretrained(
            source, revision=revision, trust_remote_code=False, use_safetensors=True, **_placement(quantization)
        )
        settings = self._model.generation_config
        if settings is not None and settings.pad_token_id is None:
            settings.pad_token_id = self._tokenizer.pad_token_id
        self.chats = bool(self._processor.chat_template or self._tokenizer.chat_template)
        """Whether it takes a prompt; a model without a chat template (BLIP, GIT) sees the photo alone."""
        if not self.chats:
            print(f"{source} has no chat template: it sees photos alone, no titles and no prompt", file=sys.stderr)

    @torch.inference_mode()
    def answer(self, photos: Sequence[Image], prompts: Sequence[str], tokens: int) -> list[Reply]:
        """Return a reply of at most `tokens` new tokens to each RGB photo and its prompt, as one batch."""
        start = time.monotonic()
        inputs = self._inputs(photos, prompts).to(self._model.device, dtype=self._model.dtype)
        with _few_threads(self._model):
            answers: Tensor = self._model.generate(  # type: ignore[operator]
                **inputs,
                max_new_tokens=tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
            )
        new = _after(answers, inputs.get("input_ids"))
        seen = inputs["attention_mask"].sum(dim=1).tolist() if "attention_mask" in inputs else [0] * len(photos)
        texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        share = (time.monotonic() - start) / len(photos)
        return [
            Reply(text, count, length, share, cut_off=not ended)
            for text, count, (length, ended) in zip(texts, seen, self._lengths(new), strict=True)
        ]

    def _inputs(self, photos: Sequence[Image], prompts: Sequence[str]) -> Any:
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

    def _lengths(self, new: Tensor) -> list[tuple[int, bool]]:
        """Return the number of tokens of each answer (n, t), its end counted, and whether it ended by itself."""
        ends = self._model.generation_config.eos_token_id
        known = torch.tensor(ends if isinstance(ends, list) else [] if ends is None else [ends], device=new.device)
        rows = torch.isin(new, known)
        return [(int(row.int().argmax()) + 1 if row.any() else new.shape[1], bool(row.any())) for row in rows]


@contextmanager
def _few_threads(model: PreTrainedModel) -> Iterator[None]:
    """Let a small model run in one thread: several wait for each other longer than they compute (3 photos/s for 90)."""
    threads = torch.get_num_threads()
    if model.num_parameters() < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _after(answers: Tensor, asked: Tensor | None) -> Tensor:
    """Return what comes after the prompt; encoder-decoders and some others answer without repeating it."""
    if asked is None or not torch.equal(answers[:, : asked.shape[1]], asked):
        return answers
    return answers[:, asked.shape[1] :]


def _placement(quantization: Quantization) -> dict[str, object]:
    """Return where the weights go and in which precision."""
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
    """Tell whether an exception says that a batch was too large, on a GPU or on a CPU."""
    said = "can't allocate memory" in str(error) or "not enough memory" in str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, RuntimeError) and said)
