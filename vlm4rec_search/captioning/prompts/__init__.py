"""Prompts as data: versioned files that say what a captioner is asked, and how catalogue text is shown to it."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlm4rec_search.captioning.base import Context
from vlm4rec_search.common.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import Template

FOLDER = Path(__file__).parent
LONGEST = 300
"""Characters of a title, or of a category, that a prompt shows."""


@dataclass(frozen=True)
class Prompt:
    """What a captioner is asked.

    Attributes:
        id: name@version; a file from outside the package has the start of its sha256 as well.
        text: Jinja template over `title` and `category`, both quoted by `quoted`.
        answer: text, or json for the fields of `prompts.answers`.
        tokens: most new tokens of an answer.
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
        from jinja2 import TemplateError

        try:
            template = _template(self.text)
            return template.render(title=quoted(context.title), category=quoted(context.category)).strip()
        except TemplateError as error:
            raise UsageError(f"prompt {self.id} cannot be rendered: {error}") from None


def quoted(text: str) -> str:
    """Return catalogue text as one quoted line that ends nowhere but at its end; "" for no text.

    Quotes and backslashes are escaped as in JSON. Angle, square and curly brackets become round ones: most chat
    templates build their markers of them (<image>, </s>, [INST]), and so does the block around the text. Runs of white
    space, control characters and invisible signs become one space, so that a speaker's name ("ASSISTANT:", LLaVA 1.5)
    starts no line. More than `LONGEST` characters are cut.
    """
    plain = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+", " ", text).strip()
    if not plain:
        return ""
    cut = plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"
    return json.dumps(cut.translate(_ROUND), ensure_ascii=False)


@cache
def _template(text: str) -> "Template":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(text)


_ROUND = str.maketrans("<>[]{}", "()()()")


@cache
def load_prompt(name: str) -> Prompt:
    """Return the prompt of that name (`VLM4REC_PROMPT`).

    Args:
        name: product (the paper's), structured, describe, or the path of a YAML file with `version`, `answer`,
            `tokens` and `text`.

    Raises:
        UsageError: there is no such prompt, or its file cannot be used.
    """
    packaged = FOLDER / f"{name}.yaml"
    if re.fullmatch(r"[a-z]+", name) and packaged.is_file():
        return _read(packaged, name)
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise UsageError(f"unknown prompt {name!r}: VLM4REC_PROMPT can be {known}, or the path of a .yaml file")
    return _read(path, path.stem)


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int
    text: str
    answer: Literal["text", "json"] = "text"
    tokens: int = Field(default=150, ge=1, le=4096)


def _read(path: Path, name: str) -> Prompt:
    import yaml

    try:
        content = path.read_bytes()
        fields = _Fields.model_validate(yaml.safe_load(content))
    except OSError as error:
        raise UsageError(f"the prompt {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"the prompt {path} cannot be used: {field}: {first['msg']}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"the prompt {path} is no YAML: {' '.join(str(error).split())}") from None
    digest = "" if path.parent == FOLDER else f"-{hashlib.sha256(content).hexdigest()[:8]}"
    prompt = Prompt(f"{name}@{fields.version}{digest}", fields.text, fields.answer, fields.tokens)
    prompt.render(Context("title", "category"))
    return prompt
