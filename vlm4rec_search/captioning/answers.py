"""Answers of models as captions: a plain text, or the structured prompt's JSON, repaired where that is safe."""

import json
import re
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vlm4rec_search.captioning.base import Caption, CaptionError
from vlm4rec_search.captioning.prompts import Prompt

FIELDS = ("colour", "material", "style", "occasion", "season")
_NOTHING = {"", "none", "null", "unknown", "n/a", "not visible", "not specified", "unspecified"}


@dataclass(frozen=True)
class Reply:
    """What a model answered to a prompt.

    Attributes:
        text: the new text alone, as it came.
        tokens_in, tokens_out, seconds: as in `Caption`.
        cut_off: whether the answer ended because it had as many tokens as were allowed.
    """

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cut_off: bool = False


def caption_from(reply: Reply, prompt: Prompt) -> Caption | CaptionError:
    """Return the caption that a reply holds, or why it holds none: empty, refused (prose for JSON) or failed."""
    text = " ".join(reply.text.split())
    paid = (text, reply.tokens_in, reply.tokens_out)
    if not text:
        return CaptionError("empty", "the answer is empty", *paid)
    note = f"cut off at {reply.tokens_out} tokens" if reply.cut_off else ""
    caption = Caption(text, {}, reply.tokens_in, reply.tokens_out, reply.seconds, note)
    if prompt.answer == "text":
        return caption
    try:
        answer = parse_answer(reply.text)
    except ValueError as error:
        reason = f"{error} ({note})" if note else str(error)
        return CaptionError("failed" if "{" in text else "refused", reason, *paid)
    return replace(caption, text=" ".join(answer.description.split()), attributes=answer.attributes)


class Answer(BaseModel):
    """What a structured prompt asks for; fields that the photo does not show are None, others lower case."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    description: str = Field(min_length=1)
    colour: str | None = None
    material: str | None = None
    style: str | None = None
    occasion: str | None = None
    season: str | None = None

    @field_validator(*FIELDS, mode="before")
    @classmethod
    def _one_text(cls, value: object) -> object:
        """Models answer with lists, and say "none" in many words."""
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = ", ".join(value)
        if isinstance(value, str):
            text = " ".join(value.lower().split())
            return None if text in _NOTHING else text
        return value

    @property
    def attributes(self) -> dict[str, str]:
        """The fields that the photo shows."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}


def parse_answer(text: str) -> Answer:
    """Return the validated answer.

    Repaired: code fences and words around the object, commas before a closing bracket, line ends inside strings.

    Raises:
        ValueError: there is no JSON object, it is cut off, or its fields are not what was asked for.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        raise ValueError("the answer is no JSON object")
    if end < start:
        raise ValueError("the answer is JSON that is cut off")
    return _validated(text[start : end + 1])


def _validated(text: str) -> Answer:
    try:
        fields = _loaded(text)
        return Answer.model_validate(fields)
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is broken JSON: {error.msg} at character {error.pos}") from None
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"the answer does not hold what was asked for: {name}: {first['msg']}") from None


def _loaded(text: str) -> object:
    """Parse as it stands, else with the commas before closing brackets left out."""
    try:
        return json.loads(text, strict=False)
    except json.JSONDecodeError:
        return json.loads(_TRAILING.sub(r"\1\2", text), strict=False)


# A string is matched first and kept, so that a comma inside it stays.
_TRAILING = re.compile(r'("(?:[^"\\]|\\.)*")|,\s*([}\]])')
