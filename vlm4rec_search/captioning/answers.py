"""Model answers turned into captions: plain text, or the JSON of the structured prompt with safe repairs."""

import json
import re
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vlm4rec_search.captioning.base import Caption, CaptionError
from vlm4rec_search.captioning.prompts import Prompt
from vlm4rec_search.common.yaml_files import describe_validation_error

FIELDS = ("colour", "material", "style", "occasion", "season")
_NOTHING = {"", "none", "null", "unknown", "n/a", "not visible", "not specified", "unspecified"}


@dataclass(frozen=True)
class Reply:
    """The unprocessed answer of a model.

    Attributes:
        text: the generated text without the prompt.
        tokens_in, tokens_out, seconds: as in `Caption`.
        cut_off: whether the answer ended because it reached the limit of tokens.
    """

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cut_off: bool = False


def caption_from(reply: Reply, prompt: Prompt) -> Caption | CaptionError:
    """Return the caption in a reply, or the reason why there is none: empty, refused (prose for JSON) or failed."""
    text = " ".join(reply.text.split())
    usage = (text, reply.tokens_in, reply.tokens_out)
    if not text:
        return CaptionError("empty", "the answer is empty", *usage)
    note = f"cut off at {reply.tokens_out} tokens" if reply.cut_off else ""
    caption = Caption(text, {}, reply.tokens_in, reply.tokens_out, reply.seconds, note)
    if prompt.answer == "text":
        return caption
    try:
        answer = parse_answer(reply.text)
    except ValueError as error:
        reason = f"{error} ({note})" if note else str(error)
        return CaptionError("failed" if "{" in text else "refused", reason, *usage)
    return replace(caption, text=" ".join(answer.description.split()), attributes=answer.attributes)


class Answer(BaseModel):
    """The fields of a structured answer in lower case; None for a field that the photo does not show."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    description: str = Field(min_length=1)
    colour: str | None = None
    material: str | None = None
    style: str | None = None
    occasion: str | None = None
    season: str | None = None

    @field_validator(*FIELDS, mode="before")
    @classmethod
    def _normalise(cls, value: object) -> object:
        """Join a list to one text, and map the many spellings of "none" to None."""
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
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

    Code fences and words around the object, commas before a closing bracket, and line breaks inside strings are
    repaired.

    Raises:
        ValueError: there is no JSON object, it is cut off, or its fields are missing or of the wrong type.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        raise ValueError("the answer contains no JSON object")
    if end < start:
        raise ValueError("the JSON of the answer is cut off")
    try:
        return Answer.model_validate(_load_json(text[start : end + 1]))
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is broken JSON: {error.msg} at character {error.pos}") from None
    except ValidationError as error:
        raise ValueError(f"the answer has an invalid field: {describe_validation_error(error)}") from None


def _load_json(text: str) -> object:
    """Parse the text unchanged, or else without the commas before closing brackets."""
    try:
        return json.loads(text, strict=False)
    except json.JSONDecodeError:
        return json.loads(_TRAILING_COMMA.sub(r"\1\2", text), strict=False)


# A string literal is matched first, so that a comma inside a string is preserved.
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,\s*([}\]])')
