"""Captions by any OpenAI-compatible server, such as vLLM, Ollama, `transformers serve` or a hosted one."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import httpx
from PIL import Image as Images
from PIL import ImageOps
from PIL.Image import Image

from vlm4rec_search.captioning.answers import Reply, caption_from
from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
from vlm4rec_search.captioning.captioners.openai.canary import (
    QUESTION,
    draw_pairs,
    draw_picture,
    is_seen,
    named_colours,
)
from vlm4rec_search.captioning.captioners.openai.client import ChatClient, CompletedRequest
from vlm4rec_search.captioning.captioners.openai.responses import TransientError, parse_completion
from vlm4rec_search.captioning.prompts import Prompt, load_prompt
from vlm4rec_search.common.cache import ASSUMED_IN
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.decode import data_url

logger = logging.getLogger(__name__)

JPEG_QUALITY = 90
"""Quality of the photo in a request, on Pillow's scale."""
SHORTEST_SIDE, WIDEST = 56, 20
"""The fewest pixels of a side of a photo in a request, and the most of the longer side for each of the shorter.

Models that cut photos into patches refuse smaller ones (28 pixels) and longer ones (200 to 1).
"""
ESTIMATED = "tokens are estimated: the server reports none"


class OpenAICaptioner(Captioner):
    """One model of one server or of several; each request contains one photo as a data URL.

    Many threads call `caption` at once; they share the rate limits. A server may change the weights behind a model's
    name without notice, so the label `VLM4REC_OPENAI_REVISION` is part of the id.

    Args:
        model: the name of the model on the server.
        settings: prompt, address, key and limits.
        sleep: waits between the attempts of a request, in seconds.

    Attributes:
        instruction: the prompt of the settings.

    Raises:
        UsageError: the prompt, the address or the key is invalid.
    """

    batch_size = 1

    def __init__(self, model: str, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._model, self._canary = model, settings.caption_canary
        self._client = ChatClient(settings, sleep)
        self.instruction = load_prompt(settings.prompt)
        self.id = f"{model}@{settings.openai_revision}"
        self.prompt = self.instruction.id
        self.decoding = f"temperature 0, {self.instruction.tokens} tokens, JPEG {JPEG_QUALITY}"
        servers = self._client.servers
        # Of several servers each has one more thread, which has its next photo ready when a request ends.
        self.workers = settings.openai_workers if servers == 1 else servers * (settings.openai_workers + 1)
        self.requests_per_minute = settings.openai_rpm and settings.openai_rpm * servers
        self.tokens_per_minute = settings.openai_tpm and settings.openai_tpm * servers

    def render(self, context: Context) -> str:
        return self.instruction.render(context)

    def caption(self, photos: Sequence[Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        """Return a caption or an error for each RGB photo, one request after the other.

        Raises:
            UsageError: the server rejects the key, or has no such model or address.
            RunError: the server cannot be reached, is out of quota, or asks for a long pause.
        """
        return [self._caption_one(photo, prompt) for photo, prompt in zip(photos, prompts, strict=True)]

    def check_sight(self, count: Callable[[int, int], None]) -> None:
        """Ask for the colours of a drawn picture; where the answer is wrong, of another one.

        A model that names no colour of either, or says the same of both, is reported. A server that fails, or answers
        nothing, proves nothing: its captions will show what is wrong.

        Raises:
            RunError: the model does not see them, and the setting is `stop`.
        """
        answers: list[str] = []
        pairs = draw_pairs(2) if self._canary != "off" else []
        for pair in pairs:
            picture = draw_picture(pair)
            tokens = len(QUESTION) // 4 + picture.width * picture.height // 750
            body = self._request_body(data_url(picture, JPEG_QUALITY), QUESTION)
            try:
                request = self._client.complete(body, tokens, self.instruction.tokens)
            except CaptionError as error:
                count(error.tokens_in, error.tokens_out)
                return
            count(*request.count_tokens(tokens, self.instruction.tokens))
            message = request.completion.choices[0].message
            answers.append(" ".join((message.text or message.refusal or "").split()))
            if is_seen(pair, answers[-1]) or not answers[-1]:
                return
        named = [set(pair) & named_colours(answer) for pair, answer in zip(pairs, answers, strict=True)]
        if answers and (answers[0] == answers[1] or not any(named)):
            warning = (
                f"{self._model} does not see photos: asked for the two colours of a picture ({' and '.join(pairs[0])}),"
                f" it answered {answers[0][:100]!r}: serve a model that takes images"
            )
            if self._canary == "stop":
                raise RunError(f"{warning}; VLM4REC_CAPTION_CANARY=off skips this question")
            logger.warning("%s; VLM4REC_CAPTION_CANARY=stop ends such runs before they cost more", warning)

    def request_body(self, photo: Image, prompt: str, url: str | None = None) -> dict[str, object]:
        """Return the chat request for an RGB photo, as it is sent: the photo as a data URL, or named by its `url`."""
        return self._request_body(url or data_url(sendable(photo), JPEG_QUALITY), prompt)

    def read_response(self, response: httpx.Response, asked: Prompt) -> Caption | CaptionError:
        """Return the caption in a response to `asked` that arrived in a file, or the reason why there is none.

        Nothing is asked again, so that every error is the reason for this photo alone. Where the response has no token
        count, the prompt and the photo are assumed to have `ASSUMED_IN` tokens.
        """
        try:
            completion = parse_completion(response, "the batch", None)
        except CaptionError as error:
            return error
        except (TransientError, UsageError, RunError) as error:
            is_billed = isinstance(error, TransientError) and error.billed
            tokens = (ASSUMED_IN, asked.tokens) if is_billed else (0, 0)
            return CaptionError("failed", str(error), "", *tokens)
        return _read_request(CompletedRequest(completion, 0.0, 0), ASSUMED_IN, asked)

    def _caption_one(self, photo: Image, prompt: str) -> Caption | CaptionError:
        photo = sendable(photo)
        # Estimates, corrected by the server's counts: four characters, or 750 pixels, make about one token.
        prompt_tokens = len(prompt) // 4 + photo.width * photo.height // 750
        body = self._request_body(data_url(photo, JPEG_QUALITY), prompt)
        try:
            request = self._client.complete(body, prompt_tokens, self.instruction.tokens)
        except CaptionError as error:
            return error
        return _read_request(request, prompt_tokens, self.instruction)

    def _request_body(self, image_url: str, prompt: str) -> dict[str, object]:
        content = [{"type": "image_url", "image_url": {"url": image_url}}, {"type": "text", "text": prompt}]
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.instruction.tokens,
            "temperature": 0,
        }


def _read_request(request: CompletedRequest, prompt_tokens: int, asked: Prompt) -> Caption | CaptionError:
    choice, usage = request.completion.choices[0], request.count_tokens(prompt_tokens, asked.tokens)
    text = choice.message.text
    if choice.message.refusal or choice.finish_reason == "content_filter":
        return CaptionError("refused", choice.message.refusal or "stopped by the content filter", text, *usage)
    reply = Reply(text, *usage, request.seconds, choice.finish_reason == "length")
    caption = caption_from(reply, asked)
    if request.is_counted or isinstance(caption, CaptionError):
        return caption
    return replace(caption, note="; ".join(filter(None, (caption.note, ESTIMATED))))


def sendable(photo: Image) -> Image:
    """Return a photo that a model accepts: a very long one on white, a very small one enlarged."""
    width, height = photo.size
    if max(width, height) > WIDEST * min(width, height):
        size = (max(width, -(-height // WIDEST)), max(height, -(-width // WIDEST)))
        photo = ImageOps.pad(photo, size, color="white")
    factor = SHORTEST_SIDE / min(photo.size)
    if factor <= 1.0:
        return photo
    return photo.resize((round(photo.width * factor), round(photo.height * factor)), Images.Resampling.BICUBIC)


def make(argument: str, settings: Settings) -> OpenAICaptioner:
    """Return the captioner for a model's name.

    Raises:
        UsageError: the name is missing, or the settings are invalid.
    """
    if not argument:
        raise UsageError("the captioner openai needs a model: VLM4REC_CAPTIONER=openai:<model as the server calls it>")
    return OpenAICaptioner(argument, settings)
