"""Captioners by name. Loading one imports no torch and requests no caption from a server; it may hash weights."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from vlm4rec_search.captioning.base import Captioner
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings

GROUP = "vlm4rec_search.captioners"
"""The entry-point group of captioners in other packages: name = "module:factory", see `captioning.base`."""

Factory = Callable[[str, Settings], Captioner]

_BUILT_IN = {
    "attributes": "attributes.attributes:make",
    "tiny": "tiny:make_tiny",
    "transformers": "transformers.captioner:make",
    "openai": "openai.captioner:make",
}


@cache
def load_captioner(name: str, settings: Settings) -> Captioner:
    """Return the captioner with this name (`VLM4REC_CAPTIONER`); equal arguments return the same object.

    Args:
        name: attributes, tiny, transformers:<folder or hub name>, openai:<model>, or <entry point>[:<argument>].
        settings: prompt, rate limits and server address.

    Raises:
        UsageError: the captioner is unknown or cannot be imported, or its settings are invalid.
    """
    family, _, argument = name.partition(":")
    try:
        factory: Factory = _entry_point(family, name).load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"captioner {name!r} cannot be imported: {error}") from None
    return factory(argument, settings)


def _entry_point(family: str, name: str) -> EntryPoint:
    if family in _BUILT_IN:
        return EntryPoint(family, f"vlm4rec_search.captioning.captioners.{_BUILT_IN[family]}", GROUP)
    offers = list(entry_points(group=GROUP, name=family))
    if len(offers) == 1:
        return offers[0]
    if offers:
        packages = ", ".join(sorted(point.dist.name for point in offers if point.dist))
        raise UsageError(f"captioner {family!r} is offered by several packages ({packages}): uninstall all but one")
    others = sorted(entry_points(group=GROUP).names - _BUILT_IN.keys())
    known = ", ".join(["attributes", "tiny", "transformers:<folder or hub name>", "openai:<model>", *others])
    raise UsageError(f"unknown captioner {name!r}: set VLM4REC_CAPTIONER to one of {known}")
