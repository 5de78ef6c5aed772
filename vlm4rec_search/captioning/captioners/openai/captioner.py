"""Captions by any OpenAI-compatible server: vLLM, Ollama, `transformers serve`, hosted ones."""

import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO

from PIL.Image import Image

from vlm4rec_search.captioning.answers import Reply, caption_from
from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
from vlm4rec_search.captioning.captioners.openai.client import ChatClient
from vlm4rec_search.captioning.prompts import load_prompt
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings

QUALITY = 90
"""Of the JPEG that a server gets; Pillow's scale."""
ESTIMATED = "tokens are estimated: the server tells none"


class OpenAICaptioner(Captioner):
    """One model of one server; a request holds one photo, as a data URL.

    Many threads call `caption` at once; limits, waiting and trying again are kept here for all of them. What is served
    under a model's name can change, and a server does not tell: `VLM4REC_OPENAI_REVISION` is part of the id for that.
    `sleep` waits between the attempts of a request, in seconds.

    Raises:
        UsageError: the prompt, the address or the key cannot be used.
    """

    batch_size = 1

    def __init__(self, model: str, options: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._model = model
        self._client = ChatClient(options, sleep)
        self._prompt = load_prompt(options.prompt)
        self.id = f"{model}@{options.openai_revision}"
        self.prompt = self._prompt.id
        self.decoding = f"temperature 0, {self._prompt.tokens} tokens, JPEG {QUALITY}"
        self.workers = options.openai_workers
        self.requests_per_minute, self.tokens_per_minute = options.openai_rpm, options.openai_tpm

    def render(self, context: Context) -> str:
        """Return the prompt with title and category as quoted data."""
        return self._prompt.render(context)

    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        """Return a caption or a failure for each RGB photo, one request after the other.

        Raises:
            UsageError: the server does not know the key, the model or the address.
            RunError: the server cannot be reached, or lets nobody in for a long time.
        """
        return [self._one(photo, prompt) for photo, prompt in zip(photos, prompts, strict=True)]

    def _one(self, photo: Image, prompt: str) -> Caption | CaptionError:
        # A token has four letters or 750 pixels, about: a reservation, put right by what the server counts.
        sent, answered = len(prompt) // 4 + photo.width * photo.height // 750, self._prompt.tokens
        try:
            answer = self._client.complete(self._body(photo, prompt), sent, answered)
        except CaptionError as error:
            return error
        choice, paid = answer.completion.choices[0], answer.paid(sent, answered)
        text = choice.message.text
        if choice.message.refusal or choice.finish_reason == "content_filter":
            return CaptionError("refused", choice.message.refusal or "stopped by the content filter", text, *paid)
        reply = Reply(text, *paid, answer.seconds, choice.finish_reason == "length")
        caption = caption_from(reply, self._prompt)
        if answer.counted or isinstance(caption, CaptionError):
            return caption
        return replace(caption, note="; ".join(filter(None, (caption.note, ESTIMATED))))

    def _body(self, photo: Image, prompt: str) -> dict[str, object]:
        jpeg = BytesIO()
        photo.save(jpeg, "JPEG", quality=QUALITY)
        url = f"data:image/jpeg;base64,{b64encode(jpeg.getvalue()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._prompt.tokens,
            "temperature": 0,
        }


def make(argument: str, options: Settings) -> OpenAICaptioner:
    """Return the captioner of a model's name.

    Raises:
        UsageError: no name is given, or the settings cannot be used.
    """
    if not argument:
        raise UsageError("the captioner openai needs a model: VLM4REC_CAPTIONER=openai:<model as the server calls it>")
    return OpenAICaptioner(argument, options)
