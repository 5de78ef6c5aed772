"""Model answers turned into captions: plain text, or the JSON of the structured prompt with safe repairs."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vlm4rec_search.captioning.base import Caption, CaptionError
from vlm4rec_search.captioning.prompts import Prompt
from vlm4rec_search.common.yaml_files import describe_validation_error

FIELDS = ("colour", "material", "style", "occasion", "season")
_OTHER_NAMES = (("caption", "description"), ("color", "colour"))


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
    """Return the caption in a reply, or the reason why there is none.

    Thoughts and the signs of chat templates are removed. The reason is empty, refused (prose for JSON, or the model
    says that it sees no photo) or failed (thoughts only, or JSON that is broken or has no description).
    """
    usage = (" ".join(reply.text.split()), reply.tokens_in, reply.tokens_out)
    answer_text = remove_thoughts(reply.text)
    if answer_text is None:
        return CaptionError("failed", "the answer ends inside the model's thoughts: switch them off", *usage)
    text = " ".join(answer_text.split())
    if not text:
        return CaptionError("empty", "the answer is empty", *usage)
    if _NO_PHOTO.search(text):
        return CaptionError("refused", "the model says that it sees no photo: does the server accept images?", *usage)
    note = f"cut off at {reply.tokens_out} tokens" if reply.cut_off else ""
    caption = Caption(text, {}, reply.tokens_in, reply.tokens_out, reply.seconds, note)
    if prompt.answer == "text":
        if _BARE_THOUGHT.match(text):
            return CaptionError("failed", "the answer is the model's thoughts: switch them off", *usage)
        plain = plain_text(answer_text, reply.cut_off)
        if _holds_json(plain):
            reason = _fault_of_json(plain)
            return CaptionError("failed", f"{reason} ({note})" if note else reason, *usage)
        return _finish(replace(caption, text=plain), reply, usage)
    try:
        answer = parse_answer(answer_text)
    except ValueError as error:
        reason = f"{error} ({note})" if note else str(error)
        return CaptionError("failed" if "{" in text else "refused", reason, *usage)
    return replace(caption, text=" ".join(answer.description.split()), attributes=answer.attributes)


def _finish(caption: Caption, reply: Reply, usage: tuple[str, int, int]) -> Caption | CaptionError:
    """Leave out the sentence within which an answer was cut off; without another one there is no caption."""
    if not caption.text:
        return CaptionError("empty", "the answer is empty", *usage)
    if not reply.cut_off or _SENTENCE_END.search(caption.text + " ", len(caption.text) - 2):
        return caption
    ends = [end.end() for end in _SENTENCE_END.finditer(caption.text)]
    if not ends:
        reason = f"{caption.note}, within the first sentence: let the prompt's file allow more `tokens`"
        return CaptionError("failed", reason, *usage)
    note = f"{caption.note}: the unfinished sentence is left out"
    return replace(caption, text=caption.text[: ends[-1]].rstrip(), note=note)


def plain_text(answer: str, cut_off: bool = False) -> str:
    """Return the words of an answer in one line, without Markdown, labels, greetings and offers of further help.

    An answer with a JSON object that has a description or a caption is that text, whatever its other fields are. An
    entry of a list ends as a sentence does, but for the last one of an answer that was cut off.
    """
    lines = [line for line in answer.rstrip().split("\n") if not _FENCE.fullmatch(line)]
    if lines and lines[0].strip().lower() == "json":
        lines = lines[1:]
    if _holds_json("\n".join(lines)):
        with suppress(ValueError):
            return _description("\n".join(lines))
    ends = [*([True] * (len(lines) - 1)), not cut_off]
    text = " ".join(" ".join(map(_plain_line, lines, ends)).split())
    for pattern in (_EAGER, _PREFACE, _LABEL):
        text = pattern.sub("", text)
    return _OFFER.sub("", text).strip()


def _holds_json(text: str) -> bool:
    """Return whether a text is JSON, or words around an object with a description."""
    start = _OBJECT.search(text)
    return bool(_JSON.match(text) or (start and _DESCRIPTION.search(text, start.start())))


def _description(text: str) -> str:
    """Return the description in a JSON object.

    Raises:
        ValueError: as `parse_answer`.
    """
    fields = _read_fields(text)
    if isinstance(value := fields.get("description"), str) and value.strip():
        return " ".join(value.split())
    raise ValueError(f"the answer is JSON without a text `description`; it has {', '.join(fields) or 'no field'}")


def _fault_of_json(text: str) -> str:
    try:
        _description(text)
    except ValueError as error:
        return str(error)
    return "the answer is broken JSON"


def _plain_line(line: str, ends: bool) -> str:
    """Return a line without Markdown; with `ends` an entry of a list ends as a sentence does."""
    words = _BULLET.sub("", line)
    is_entry = ends and words != line and words.strip() and words.rstrip()[-1] not in ".!?:;,"
    words = _LINK.sub(r"\1", _HEADING.sub("", words))
    return _EMPHASIS.sub(r"\2", words).rstrip() + ("." if is_entry else "")


def remove_thoughts(text: str) -> str | None:
    """Return an answer without thoughts, template signs and greeting, or None if it ends inside the thoughts."""
    if _CHANNEL in text:
        _, final, text = text.rpartition(f"{_CHANNEL}final<|message|>")
        if not final:
            return None
    *_, text = _THOUGHTS_END.split(text)  # the opening tag may be part of the prompt
    if _THOUGHTS_START.search(text):
        return None
    text = _BOX.sub(" ", text).lstrip()
    text = _GREETING.sub("", _TURN_START.sub("", text))
    return _TEMPLATE_SIGN.sub(" ", _TURN_END.split(text)[0]).strip()


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
        """Join a list to one text, and leave out the many spellings of "none"; None where nothing is left."""
        entries = value if isinstance(value, list) else [value]
        texts = [" ".join(entry.lower().split()) for entry in entries if isinstance(entry, str)]
        if len(texts) < len(entries):
            return value
        return ", ".join(text for text in texts if not _NOTHING.fullmatch(text)) or None

    @property
    def attributes(self) -> dict[str, str]:
        """The fields that the photo shows."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}


def parse_answer(text: str) -> Answer:
    """Return the validated answer.

    Code fences and words around the object, an object that is written as a string, commas before a closing bracket,
    and line breaks inside strings are repaired.

    Raises:
        ValueError: there is no JSON object, it is cut off, or its fields are missing or of the wrong type.
    """
    try:
        return Answer.model_validate(_read_fields(text))
    except ValidationError as error:
        raise ValueError(f"the answer has an invalid field: {describe_validation_error(error)}") from None


def _read_fields(text: str) -> dict[str, object]:
    """Return the fields of the JSON object in a text, by names in lower case.

    `caption` and `color` are read where `description` and `colour` are missing or say nothing.
    """
    fields: dict[str, object] = {}
    for name, value in _load_object(text).items():
        fields.setdefault(name.lower(), value)
    for other, name in _OTHER_NAMES:
        if not _is_usable(name, fields.get(name)) and _is_usable(name, fields.get(other)):
            fields[name] = fields[other]
    return fields


def _is_usable(name: str, value: object) -> bool:
    """Return whether a field says something: a text, or but for the description a list with one."""
    entries = value if isinstance(value, list) and name != "description" else [value]
    texts = [" ".join(entry.lower().split()) for entry in entries if isinstance(entry, str)]
    return any(not _NOTHING.fullmatch(text) for text in texts)


def _load_object(text: str) -> dict[str, object]:
    if text.lstrip().startswith('"'):
        with suppress(json.JSONDecodeError):
            text = str(json.loads(text, strict=False))
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        raise ValueError("the answer contains no JSON object")
    if end < start:
        raise ValueError("the JSON of the answer is cut off")
    try:
        return _load_json(text[start : end + 1])
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is broken JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("the answer is broken JSON: it is nested too deeply") from None


def _load_json(text: str) -> dict[str, object]:
    """Parse the text of an object unchanged, or else without the commas before closing brackets."""
    text = replace_half_characters(text)
    try:
        return dict(json.loads(text, strict=False))
    except json.JSONDecodeError:
        return dict(json.loads(_TRAILING_COMMA.sub(r"\1\2", text), strict=False))


def replace_half_characters(text: str) -> str:
    r"""Return JSON with U+FFFD for each surrogate without its other half, such as \ud83d: UTF-8 cannot hold one."""
    return _ESCAPE.sub(lambda found: found[1] or "\ufffd", text)


# Whole characters are matched first, so that their second half is preserved, and an escaped backslash before a "u".
_ESCAPE = re.compile(r"(\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\[^u])|\\ud[89a-f][0-9a-f]{2}", re.IGNORECASE)

# A string literal is matched first, so that a comma inside a string is preserved.
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,\s*([}\]])')


_CHANNEL = "<|channel|>"
_THOUGHTS_START = re.compile(
    r"<(?:seed:)?(?:think|thinking|thought|reasoning)>|\[think\]|\u25c1think\u25b7|<\|start_thinking\|>", re.IGNORECASE
)
_THOUGHTS_END = re.compile(
    r"</(?:seed:)?(?:think|thinking|thought|reasoning)>|\[/think\]|\u25c1/think\u25b7|<\|end_thinking\|>", re.IGNORECASE
)
_BOX = re.compile(r"<\|(?:begin|end)_of_box\|>")
_TURN_START = re.compile(r"^(?:<\|(?:im_start|start)\|>\s*assistant\s*|assistant\s*\n|<start_of_turn>\s*model\s*)+")
_GREETING = re.compile(
    r"^(?:(?:sure|certainly|of course)[!,.]\s*)?here(?:['\u2019]s| is)[^\n:.]{0,80}:\s*\n\s*", re.IGNORECASE
)
_TURN_END = re.compile(r"<\|(?:im_end|end|return|eot_id|endoftext|end_of_text|im_start)\|>|</s>|<end_of_turn>")
_TEMPLATE_SIGN = re.compile(r"<\|[a-z_]{1,40}\|>|</?answer>", re.IGNORECASE)
_JSON = re.compile(r"\s*\"?\s*\[?\s*\{")
_OBJECT = re.compile(r'\{\s*\\?"[^"]*"\s*:')
_DESCRIPTION = re.compile(r'"(?:description|caption)\\?"\s*:', re.IGNORECASE)
_NONE = (
    r"(?:none|null|nil|nan|nothing|unknown|undefined|unclear|unspecified|n\W?a|cannot be determined"
    r"|(?:none|not|nothing)(?: clearly)? (?:visible|seen|shown|specified|stated|mentioned|given|known|clear|apparent"
    r"|applicable|available|discernible|identifiable|determinable))"
    r"(?: (?:in|from|on) (?:the |this )?(?:photo|image|picture))?"
)
# Such words alone, several of them, or with a remark in brackets, or signs alone.
_NOTHING = re.compile(
    rf"[\s(.*_-]*+(?:{_NONE}(?:(?: or | ?[/,;:\u2013\u2014-] ?){_NONE})*(?: ?\([^()]*\))?)?[\s).*_?\u2013\u2014-]*"
)
_FENCE = re.compile(r"\s*(?:```|~~~)\s*[\w-]*\s*")
_HEADING = re.compile(r"^\s*(?:#{1,6}|>)\s+")
_BULLET = re.compile(r"^\s*(?:[-*+\u2022]|\d{1,2}[.)])\s+(?=\S)")
_LINK = re.compile(r"!?\[([^\[\]]+)\]\([^()\s]+\)")
_EMPHASIS = re.compile(r"(?<![\w*`])(\*{1,3}|_{1,3}|`)(?=\S)([^*`]+?)(?<=\S)\1(?![\w*`])")
_EAGER = re.compile(r"^(?:sure(?: thing)?|certainly|of course|absolutely|gladly|great)\s*[!,.:]\s*", re.IGNORECASE)
_PREFACE = re.compile(
    r"^(?:here(?:['\u2019]s| is| are)|this is|below is)\s[^:.!?]{0,60}"
    r"\b(?:description|descriptions|caption|sentences|summary|answer|text)\b[^:.!?]{0,60}:\s*",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^(?:product|description|product description|caption|answer|item)\s*:\s*(?=\S)", re.IGNORECASE)
_OFFER = re.compile(
    r"(?:\s+(?:I hope (?:this|that)|hope (?:this|that)|(?:please )?let me know|(?:please )?feel free"
    r"|is there anything else|would you like)\b[^.!?]*[.!?])+\s*$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?:[.!?]['\u2019\"\u201d)]?(?=\s|$)|[\u3002\uff01\uff1f])")
_PICTURE = r"(?:images?|photos?|pictures?|photographs?|attachments?)\b"
_NO_PHOTO = re.compile(
    rf"\b(?:I|we)\s*(?:do not|don['\u2019]t|can['\u2019]?t|cannot|can not"
    rf"|am unable to|['\u2019]m unable to|am not able to)\s+"
    rf"(?:actually\s+|currently\s+)?(?:see|view|access)\s+(?:(?:an|any|the|your)\s+)?(?:attached\s+)?{_PICTURE}"
    rf"|\bno {_PICTURE} (?:was|were|is|has been) (?:provided|attached|uploaded|included)",
    re.IGNORECASE,
)
_BARE_THOUGHT = re.compile(
    r"(?:(?:okay|ok|alright|got it|hmm|so)[,.]?\s+)?"
    r"(?:the user (?:wants|asks|is asking|has asked|needs)|(?:I|we) need to (?:describe|write|look|analy[sz]e)"
    r"|let(?: me|['\u2019]s) (?:think|look|analy[sz]e|see|start))\b",
    re.IGNORECASE,
)
