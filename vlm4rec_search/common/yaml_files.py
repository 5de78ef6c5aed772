"""YAML files that people write, read into pydantic models; every mistake becomes one line that names the place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import Composer

from vlm4rec_search.common.errors import UsageError, one_line
from vlm4rec_search.common.paths import read_text

ModelT = TypeVar("ModelT", bound=BaseModel)
_ADVICE = {
    **dict.fromkeys(("model_type", "dict_type", "mapping_type"), "write keys with their values, such as key: value"),
    **dict.fromkeys(("tuple_type", "list_type"), "write a list, such as [a, b]"),
    "string_type": "write one text",
}
"""What to do in the words of YAML, where pydantic names types of Python."""


class _RepeatedKeyError(yaml.YAMLError):
    """A mapping has a key twice, of which PyYAML would silently keep the last."""


class _UniqueKeys(Composer):
    """Refuses repeated keys, in front of a loader of PyYAML."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        mapping = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in mapping.value:
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if name in lines:
                raise _RepeatedKeyError(f"line {line} repeats the key {key.value!r} of line {lines[name]}: write one")
            lines[name] = line
        return mapping


def describe_validation_error(error: ValidationError) -> str:
    """Return `field.subfield: message` of the first mistake that pydantic found, without the place if there is none."""
    first = error.errors()[0]
    # pydantic's own words before those of a validator
    message = _ADVICE.get(first["type"], first["msg"].removeprefix("Value error, "))
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), message)))


def read_yaml(
    path: Path,
    model: type[ModelT],
    subject: str,
    hint: str = "",
    loader: type[yaml.SafeLoader | yaml.BaseLoader] = yaml.SafeLoader,
    defaults: Mapping[str, object] | None = None,
) -> ModelT:
    """Read a YAML file into a model.

    Args:
        path: of the file.
        model: the pydantic model that validates the content.
        subject: noun for error messages, such as "the ranking configuration".
        hint: end of the message about a file that cannot be read, such as "set VLM4REC_RANKING".
        loader: `yaml.BaseLoader` keeps every value as text.
        defaults: fields that the file may leave out.

    Raises:
        UsageError: the file cannot be read, or as for `parse_yaml`.
    """
    return parse_yaml(read_text(path, subject, hint), model, f"{subject} {path}", loader, defaults)


def parse_yaml(
    text: str,
    model: type[ModelT],
    subject: str,
    loader: type[yaml.SafeLoader | yaml.BaseLoader] = yaml.SafeLoader,
    defaults: Mapping[str, object] | None = None,
) -> ModelT:
    """Read the text of a YAML file into a model; the arguments are those of `read_yaml`.

    A key of the outermost mapping without a value counts as left out: all of its entries may be commented out.

    Raises:
        UsageError: the text is not YAML, a mapping has a key twice, or the content does not validate.
    """
    try:
        content = yaml.load(text, type("_Loader", (_UniqueKeys, loader), {}))  # noqa: S506  safe loaders only
        content = {} if content is None else content  # an empty file, or one of comments
        if isinstance(content, dict):
            given = {key: value for key, value in content.items() if value not in (None, "")}
            content = {**(defaults or {}), **given}
        return model.model_validate(content)
    except _RepeatedKeyError as error:
        raise UsageError(f"{subject}: {error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{subject} is not YAML: {one_line(error)}") from None
    except ValidationError as error:
        raise UsageError(f"{subject}: {describe_validation_error(error)}") from None
