"""Prompts as versioned YAML files, and the quoting that lets catalogue text into a prompt as data only."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field

from vlm4rec_search.captioning.base import Context
from vlm4rec_search.common.errors import UsageError, one_line
from vlm4rec_search.common.yaml_files import read_yaml

FOLDER = Path(__file__).parent
LONGEST = 300
"""The largest number of characters of a title, or of a category, in a prompt."""

_TO_ROUND_BRACKETS = str.maketrans("<>[]{}", "()()()")


@dataclass(frozen=True)
class Prompt:
    """The instruction for a captioner.

    Attributes:
        id: name@version; for a file outside the package also the first 8 hex digits of its sha256.
        text: Jinja template with the variables `title` and `category`, which are quoted by `quoted`.
        answer: text, or json for the fields of `captioning.answers.Answer`.
        tokens: the largest number of new tokens in an answer.
    """

    id: str
    text: str
    answer: Literal["text", "json"] = "text"
    tokens: int = 150

    def render(self, context: Context) -> str:
        """Return the prompt for one item.

        Raises:
            UsageError: the template is broken.
        """
        try:
            template = _template(self.text)
            return template.render(title=quoted(context.title), category=quoted(context.category)).strip()
        except Exception as error:  # a template raises what its expressions and filters raise
            raise UsageError(f"prompt {self.id} cannot be rendered: {one_line(error)}") from None


def quoted(text: str) -> str:
    """Return catalogue text as one quoted line that it cannot close early; "" for an empty text.

    Quotes and backslashes are escaped as in JSON. Angle, square and curly brackets become round ones, because most
    chat templates build their markers from them (<image>, </s>, [INST]), and so does the block around the text. Runs
    of white space, control characters and invisible characters become one space, so that a speaker's name
    ("ASSISTANT:", LLaVA 1.5) cannot start a line. A text of more than `LONGEST` characters is cut.
    """
    plain = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+", " ", text).strip()
    if not plain:
        return ""
    cut = plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"
    return json.dumps(cut.translate(_TO_ROUND_BRACKETS), ensure_ascii=False)


@cache
def _template(text: str) -> Template:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(text)


@cache
def load_prompt(name: str) -> Prompt:
    """Return the prompt with this name (`VLM4REC_PROMPT`).

    Args:
        name: product (the paper's), structured, describe, or the path of a YAML file with `version`, `answer`,
            `tokens` and `text`.

    Raises:
        UsageError: the prompt does not exist, or its file is invalid.
    """
    packaged = FOLDER / f"{name}.yaml"
    if re.fullmatch(r"[a-z]+", name) and packaged.is_file():
        return _read_prompt(packaged, name)
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise UsageError(f"unknown prompt {name!r}: VLM4REC_PROMPT can be {known}, or the path of a .yaml file")
    return _read_prompt(path, path.stem)


class _PromptFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int
    text: str
    answer: Literal["text", "json"] = "text"
    tokens: int = Field(default=150, ge=1, le=4096)


def _read_prompt(path: Path, name: str) -> Prompt:
    fields = read_yaml(path, _PromptFile, "the prompt")
    digest = "" if path.parent == FOLDER else f"-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    prompt = Prompt(f"{name}@{fields.version}{digest}", fields.text, fields.answer, fields.tokens)
    prompt.render(Context("title", "category"))  # a broken template is reported before the first photo is captioned
    return prompt
