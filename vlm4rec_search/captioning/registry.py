"""Captioners by name; loading one imports no torch, at most hashes weights, and asks no server for a caption."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings, settings

__all__ = ["Caption", "CaptionError", "Captioner", "Context", "load_captioner"]

GROUP = "vlm4rec_search.captioners"
"""Entry points of other packages: name = "module:factory", called as factory(argument, settings) -> Captioner."""

Factory = Callable[[str, Settings], Captioner]

_OWN = {
    "attributes": "attributes.attributes:make",
    "tiny": "transformers.captioner:make_tiny",
    "transformers": "transformers.captioner:make",
    "openai": "openai.captioner:make",
}


def load_captioner(name: str, options: Settings | None = None) -> Captioner:
    """Return the captioner of that name (`VLM4REC_CAPTIONER`).

    Args:
        name: attributes, tiny, transformers:<folder or hub name>, openai:<model>, or <entry point>[:<argument>].
        options: prompt, limits and address; default: the settings of this process.

    Raises:
        UsageError: there is no such captioner, or its settings cannot be used.
    """
    return _load(name, options or settings())


@cache
def _load(name: str, options: Settings) -> Captioner:
    family, _, argument = name.partition(":")
    try:
        factory: Factory = _entry_point(family, name).load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"captioner {name!r} cannot be imported: {error}") from None
    return factory(argument, options)


def _entry_point(family: str, name: str) -> EntryPoint:
    if family in _OWN:
        return EntryPoint(family, f"vlm4rec_search.captioning.captioners.{_OWN[family]}", GROUP)
    found = list(entry_points(group=GROUP, name=family))
    if len(found) == 1:
        return found[0]
    if found:
        packages = ", ".join(sorted(point.dist.name for point in found if point.dist))
        raise UsageError(f"captioner {family!r} is offered by several packages ({packages}): keep one installed")
    others = sorted(entry_points(group=GROUP).names - _OWN.keys())
    known = ", ".join(["attributes", "tiny", "transformers:<folder or hub name>", "openai:<model>", *others])
    raise UsageError(f"unknown captioner {name!r}: VLM4REC_CAPTIONER can be {known}")
