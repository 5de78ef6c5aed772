"""Chat completions as servers really send them: no usable text is lost for something odd beside it."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator


def _or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return None


OrNone = WrapValidator(_or_none)
Text = Annotated[str | None, OrNone]
Count = Annotated[Annotated[int, Field(ge=0)] | None, OrNone]


class Part(BaseModel):
    """A part of a message's content; one that is no text has none."""

    text: Text = None


class Message(BaseModel):
    """The answer: words, or why there are none."""

    content: Annotated[str | Part | list[Annotated[str | Part | None, OrNone]] | None, OrNone] = None
    refusal: Text = None

    @property
    def text(self) -> str:
        """The words, "" for none."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "".join((part.text if isinstance(part, Part) else part) or "" for part in parts)


class Choice(BaseModel):
    """One answer, and why it ended."""

    message: Message
    finish_reason: Text = None


class Usage(BaseModel):
    """Tokens that were counted; None where the server does not tell."""

    prompt_tokens: Count = None
    completion_tokens: Count = None


def _first(choices: object) -> object:
    return choices[:1] if isinstance(choices, list) else choices


class Completion(BaseModel):
    """A chat completion, as far as captions need it."""

    choices: Annotated[list[Choice], BeforeValidator(_first), Field(min_length=1)]
    usage: Annotated[Usage | None, OrNone] = None


@dataclass(frozen=True)
class Answered:
    """A completion and what it took.

    `seconds` is the time of the call that succeeded; `broken` counts the calls before it whose answer was lost on its
    way, which a server takes money for.
    """

    completion: Completion
    seconds: float
    broken: int

    @property
    def counted(self) -> bool:
        """Whether the server tells all of its tokens."""
        usage = self.completion.usage or Usage()
        return bool(usage.prompt_tokens) and usage.completion_tokens is not None

    def paid(self, sent: int, answered: int) -> tuple[int, int]:
        """Return tokens in and out of all calls; a lost answer has taken `sent` and `answered`.

        Where the server does not tell they are `sent`, and four letters of the text each.
        """
        usage = self.completion.usage or Usage()
        got = len(self.completion.choices[0].message.text) // 4
        got = got if usage.completion_tokens is None else usage.completion_tokens
        return (usage.prompt_tokens or sent) + self.broken * sent, got + self.broken * answered
